//! What the numbers should be, and which of them are not.

use super::data::Kind;
use super::{Phase, Settings};

/// A peak up to this is good enough whatever kopia's is, in MiB: the key derivation alone takes 64.
const PEAK_MIB: f64 = 96.0;
/// Of kopia's peak.
const PEAK_RATIO: f64 = 0.5;
/// Of what kopia's repository takes.
const SIZE_RATIO: f64 = 1.02;
/// Calls to a bucket in an unchanged backup, whatever its size.
const UNCHANGED_CALLS: f64 = 20.0;

/// Which row of the table.
#[derive(Clone, Copy)]
pub struct Place {
    pub data: Kind,
    pub settings: Settings,
    pub phase: Phase,
    pub is_bucket: bool,
}

/// The medians of one program.
#[derive(Clone, Copy)]
pub struct Medians {
    pub wall_s: f64,
    pub cpu_s: f64,
    pub peak_mib: f64,
    pub repository_mib: f64,
    pub s3_calls: Option<f64>,
}

/// Most of kopia's wall time and processor time; none where there is no goal.
fn times(place: Place) -> Option<(f64, f64)> {
    match (place.phase, place.data, place.settings) {
        (Phase::Create | Phase::Changed, ..) => None,
        // Hardly anything but the key derivation, which both do alike.
        (Phase::Unchanged, Kind::Big, _) => Some((0.9, 0.9)),
        (Phase::First | Phase::Unchanged | Phase::Restore, _, Settings::Default) => Some((0.5, 0.6)),
        (Phase::First | Phase::Unchanged | Phase::Restore, _, Settings::ZstdFastest) => Some((0.7, 0.7)),
    }
}

/// The goals that are missed, each with what it is and should be.
pub fn missed(place: Place, ours: Medians, kopias: Medians) -> Vec<String> {
    let mut missed = Vec::new();
    let mut check = |what: &str, is: f64, most: f64| {
        if is > most {
            missed.push(format!("{what} {is:.2} instead of at most {most:.2}"));
        }
    };
    if let Some((wall, cpu)) = times(place) {
        check("wall time", ours.wall_s / kopias.wall_s, wall);
        check("processor time", ours.cpu_s / kopias.cpu_s, cpu);
    }
    check("peak in MiB", ours.peak_mib, (kopias.peak_mib * PEAK_RATIO).max(PEAK_MIB));
    if place.phase != Phase::Create {
        check("repository size", ours.repository_mib / kopias.repository_mib, SIZE_RATIO);
    }
    if let (Phase::Unchanged, true, Some(calls)) = (place.phase, place.is_bucket, ours.s3_calls) {
        check("calls", calls, UNCHANGED_CALLS);
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    const KOPIA: Medians =
        Medians { wall_s: 2.0, cpu_s: 4.0, peak_mib: 150.0, repository_mib: 100.0, s3_calls: Some(30.0) };

    #[track_caller]
    fn check(phase: Phase, data: Kind, settings: Settings, ours: Medians, expected: &[&str]) {
        assert_eq!(missed(Place { data, settings, phase, is_bucket: true }, ours, KOPIA), expected);
    }

    #[test]
    fn what_is_missed_is_named() {
        let good = Medians { wall_s: 1.0, cpu_s: 2.4, peak_mib: 96.0, repository_mib: 102.0, s3_calls: Some(20.0) };
        check(Phase::First, Kind::Small, Settings::Default, good, &[]);
        let slow = Medians { wall_s: 1.5, cpu_s: 2.6, peak_mib: 96.5, repository_mib: 103.0, s3_calls: Some(21.0) };
        let other = ["peak in MiB 96.50 instead of at most 96.00", "repository size 1.03 instead of at most 1.02"];
        check(Phase::Changed, Kind::Big, Settings::Default, slow, &other);
        let calls = "calls 21.00 instead of at most 20.00";
        check(Phase::Unchanged, Kind::Big, Settings::Default, slow, &[other[0], other[1], calls]);
        let wall = "wall time 0.75 instead of at most 0.70";
        check(Phase::Restore, Kind::Big, Settings::ZstdFastest, slow, &[wall, other[0], other[1]]);
        let (wall, cpu) = ("wall time 0.75 instead of at most 0.50", "processor time 0.65 instead of at most 0.60");
        check(Phase::First, Kind::Small, Settings::Default, slow, &[wall, cpu, other[0], other[1]]);
    }
}

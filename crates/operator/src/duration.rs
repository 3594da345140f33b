//! Spans of time as Go writes them, which is how VolSync's status has them.

use std::time::Duration;

/// Hours and minutes only where there are any, seconds with up to nine decimals; below a second in a smaller unit.
pub fn go(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let (hours, minutes) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60);
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// The quotient, without zeros at its end.
fn decimal(value: u128, unit: u128) -> String {
    let width = unit.ilog10() as usize;
    let fraction = format!("{:0width$}", value % unit);
    match fraction.trim_end_matches('0') {
        "" => (value / unit).to_string(),
        fraction => format!("{}.{fraction}", value / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_writes_them() {
        let check = |nanos: u64, expected: &str| assert_eq!(go(Duration::from_nanos(nanos)), expected);
        check(0, "0s");
        check(15, "15ns");
        check(1_500, "1.5µs");
        check(512_300_000, "512.3ms");
        check(24_089_891_610, "24.08989161s");
        check(67_280_000_000, "1m7.28s");
        check(3_603_000_000_000, "1h0m3s");
        check(60_000_000_000, "1m0s");
    }
}

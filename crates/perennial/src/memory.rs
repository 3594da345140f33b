//! How much memory a command may use.

use std::fs;
use std::path::{Path, PathBuf};

/// What a command uses unless told otherwise, in bytes: enough for two processors and a local store.
const BUDGET_BYTES: u64 = 96 << 20;
/// Below this nothing works, in bytes: one key derivation alone takes 64 MiB.
const LEAST_BYTES: u64 = 64 << 20;
/// Where control groups are found.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Reads a size: digits and a unit, as in `96MiB`, `1G` or `1.5GiB`. `K`, `M`, `G` are powers of 1024 too.
pub fn size(text: &str) -> Result<u64, String> {
    let digits_end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let number: f64 = number.parse().map_err(|_| "not of the form 96MiB or 1GiB".to_owned())?;
    let unit_bytes: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err(format!("the unit {unit} is none of KiB, MiB and GiB")),
    };
    Ok((number * unit_bytes as f64) as u64)
}

/// Reads how much memory may be used, as [`size`].
pub fn parse(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if bytes < LEAST_BYTES { Err("less than 64MiB, which one key derivation takes".to_owned()) } else { Ok(bytes) }
}

/// What a command may use when nobody says: the budget, or what the control group allows if that is less.
pub fn default_bytes() -> u64 {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limit(&groups, &|path| fs::read_to_string(path).ok()).map_or(BUDGET_BYTES, |limit| limit.min(BUDGET_BYTES))
}

/// The least limit on the way from the process's own control group to the root, of version 2 or 1.
fn limit(groups: &str, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    groups.lines().filter_map(|line| limit_of_group(line, read)).min()
}

/// One line of `/proc/self/cgroup`: `0::/path`, or `9:memory:/path` in version 1.
fn limit_of_group(line: &str, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (root, file) = match controllers {
        "" => (PathBuf::from(CGROUP_ROOT), "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            (Path::new(CGROUP_ROOT).join("memory"), "memory.limit_in_bytes")
        }
        _ => return None,
    };
    // Inside a container the path is often not visible, but the root is then the container's own group.
    let own = root.join(path.trim_start_matches('/'));
    let levels = own.ancestors().take_while(|level| level.starts_with(&root));
    levels.filter_map(|level| read(&level.join(file))?.trim().parse::<u64>().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::{limit, parse};
    use std::path::Path;

    #[test]
    fn sizes_have_units() {
        let mib = |text: &str| parse(text).map(|bytes| bytes >> 20);
        assert_eq!(mib("96MiB"), Ok(96));
        assert_eq!(mib("1.5g"), Ok(1536));
        assert_eq!(mib("134217728"), Ok(128));
        assert_eq!(mib("200 MB"), Ok(200));
        for wrong in ["", "many", "96 parsecs", "63MiB", "-1GiB"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[track_caller]
    fn check(groups: &str, files: &[(&str, &str)], expected: Option<u64>) {
        let read = |path: &Path| {
            files
                .iter()
                .find(|(name, _)| Path::new("/sys/fs/cgroup").join(name) == path)
                .map(|(_, text)| (*text).to_owned())
        };
        assert_eq!(limit(groups, &read), expected);
    }

    #[test]
    fn the_nearest_limit_counts_in_both_versions() {
        check(
            "0::/a/b\n",
            &[("memory.max", "max\n"), ("a/memory.max", "1000\n"), ("a/b/memory.max", "2000\n")],
            Some(1000),
        );
        check("0::/not/visible\n", &[("memory.max", "500\n")], Some(500));
        check("0::/\n", &[("memory.max", "max\n")], None);
        let hybrid = "9:cpu,cpuacct:/x\n4:memory:/x\n0::/\n";
        check(hybrid, &[("memory/x/memory.limit_in_bytes", "77\n")], Some(77));
        check("", &[], None);
    }
}

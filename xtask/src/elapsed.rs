//! How long something took, the way a person says it.

use std::time::Duration;

/// `850 ms`, `12.3 s`, `3 min 42 s`.
pub fn text(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        0 => format!("{} ms", elapsed.as_millis()),
        1..60 => format!("{:.1} s", elapsed.as_secs_f64()),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_in_the_fitting_unit() {
        assert_eq!(text(Duration::from_millis(850)), "850 ms");
        assert_eq!(text(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(text(Duration::from_secs(222)), "3 min 42 s");
    }
}

//! What the schemas let through as a schedule: VolSync's expression with all its accidents, and our stricter one.

use api::v1alpha1::policy;
use api::volsync::trigger;
use regex::Regex;

#[track_caller]
fn check(schedule: &str, volsync: bool, ours: bool) {
    let of_volsync = Regex::new(trigger::SCHEDULE_PATTERN).unwrap().is_match(schedule);
    let of_ours = Regex::new(policy::SCHEDULE_PATTERN).unwrap().is_match(schedule);
    assert_eq!((of_volsync, of_ours), (volsync, ours), "{schedule:?}");
}

#[test]
fn volsyncs_accidents_stay() {
    for schedule in ["@dailyx", "@daily junk", "@weekly ", "19 */3 * * * ", "junk 0 2 * * *", "0 0 0 0 0 0", "12345"] {
        check(schedule, true, false);
    }
    // Accepted only since blanks are optional and the start is open: our own kinds ask for one that means something.
    for schedule in ["0 0-23/6 * * *", "0-30/5 * * * *", "0 9-17/2 * * *", "1-5,7 * * * *"] {
        check(schedule, true, false);
    }
}

#[test]
fn both_take_what_means_something() {
    for schedule in ["@daily", "@hourly", "0 2 * * *", "*/15 * * * *", "0 9-17 * * *", "0 0 1 1 *", "*/5 * * * *"] {
        check(schedule, true, true);
    }
    for schedule in ["0 0 1 3-5 *", "0 9,17 * * *", "6 5 4 3 2", "37 */6 * * *", "0 25 * * *", "0 2 * * 7"] {
        check(schedule, true, true);
    }
    check("CRON_TZ=Europe/Paris 0 2 * * *", true, true);
    check("TZ=UTC 0 2 * * *", true, true);
}

#[test]
fn both_refuse_what_volsync_refuses() {
    for schedule in ["@midnight", "@every 1h", "0  2 * * *", "0 2 * * *  ", "* * * *", "", "something"] {
        check(schedule, false, false);
    }
    for schedule in ["0 0 * * 1-5,7", "0 0 1-5,7 * *", "0 2 * * MON", "0 2 * JAN *", "0 2 ? * *", "H 2 * * *"] {
        check(schedule, false, false);
    }
}

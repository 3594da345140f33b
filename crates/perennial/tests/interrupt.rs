//! Signals: the run ends soon, says so, and leaves a repository that the next run uses.

use crate::support::{PASSWORD, Place, Ran};
use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// A file of holes: nothing on disk, and long to read.
const HOLES_BYTES: u64 = 1 << 38;

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Until the process has this file open.
fn wait_until_open(child: &Child, path: &std::path::Path) {
    let began = Instant::now();
    let files = format!("/proc/{}/fd", child.id());
    loop {
        assert!(began.elapsed() < PATIENCE, "{} is never opened", path.display());
        let open = fs::read_dir(&files).into_iter().flatten().flatten();
        if open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target == path) {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_backup_stops_at_a_signal_and_the_next_one_works() {
    let place = Place::created();
    let source = place.plant("source");
    let holes = source.join("holes");
    for stop in [Signal::INT, Signal::TERM] {
        File::create(&holes).unwrap().set_len(HOLES_BYTES).unwrap();
        let mut command = place.command();
        let child = command.args(["backup", "source"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until_open(&child, &holes);
        signal(&child, stop);
        let ran = Ran::of(&child.wait_with_output().unwrap()).expect(130);
        assert!(ran.stderr.contains("stopped by a signal") && ran.stderr.contains("hint: "), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
        fs::remove_file(&holes).unwrap();
    }
    assert_eq!(place.run(&["snapshots"]).expect(0).stdout, "no snapshots\n");
    place.run(&["backup", "source"]).expect(0);
    place.run(&["verify", "--read-percent", "100"]).expect(0);
}

/// A store that takes the connection and then says nothing.
#[test]
fn a_store_that_hangs_does_not_hold_a_signal_up() {
    let place = Place::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("s3://bucket/prefix?endpoint=http://{}", silent.local_addr().unwrap());
    let mut command = place.command();
    command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "key").env("PERENNIAL_PASSWORD", PASSWORD);
    let child = command.args(["snapshots", "--store", &address]).stderr(Stdio::piped()).spawn().unwrap();
    let connection = silent.accept().unwrap();
    signal(&child, Signal::INT);
    let ran = Ran::of(&child.wait_with_output().unwrap()).expect(130);
    assert!(ran.stderr.contains("stopped by a signal"), "{}", ran.stderr);
    drop(connection);
}

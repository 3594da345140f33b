//! Random steps by this program and by two releases of the real kopia on one repository.
//!
//! A seed gives the repository's choices and every step: the tree is edited, backed up as one of two identities,
//! snapshots are forgotten, expired, maintained around, restored and verified, each by whichever program the dice name.
//! Beside the repository stands what every snapshot must contain. Each restore is compared with that, byte for byte
//! and with all attributes, and each listing with the snapshots that should be there.
//!
//! The seed is printed. `PERENNIAL_INTERLEAVE_SEED` sets the first, `PERENNIAL_INTERLEAVE_SEEDS` how many,
//! `PERENNIAL_INTERLEAVE_STEPS` the steps of each.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::kopia::{Kopia, Release, as_kopia_keeps, without_times};
use crate::support::{Place, describe};

mod dice;
mod tree;

use dice::Dice;
use tree::Tree;

const SEEDS: u64 = 10;
const STEPS: u64 = 200;
/// Steps between two full verifications by everyone.
const VERIFY_EVERY: u64 = 100;
const IDENTITIES: [&str; 2] = ["one@box:/data", "two@rack:/srv/data"];

/// Who takes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    We,
    Kopia(Release),
}

/// What a snapshot must give back.
struct Taken {
    who: Who,
    identity: &'static str,
    /// Snapshots of one identity are told apart by the order in which they were taken.
    order: u64,
    contains: String,
}

struct World {
    seed: u64,
    dice: Dice,
    place: Place,
    tree: Tree,
    taken: BTreeMap<String, Taken>,
    keep_latest: usize,
    step: u64,
    log: Vec<String>,
}

/// Prints how to run it again when a step fails.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log.join("\n  ");
            let again = format!(
                "PERENNIAL_INTERLEAVE_SEED={} PERENNIAL_INTERLEAVE_SEEDS=1 PERENNIAL_INTERLEAVE_STEPS={}",
                self.seed,
                self.step.max(1)
            );
            println!("interleave: these steps failed:\n  {log}\nagain: {again} cargo test -p perennial interleave");
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let place = Place::new();
        let tree = Tree::plant(&place.path("tree"), &mut dice);
        let log = Vec::new();
        let taken = BTreeMap::new();
        let mut world = Self { seed, dice, place, tree, taken, keep_latest: 4, step: 0, log };
        world.create();
        world.set_policy();
        world
    }

    /// A repository with one of the formats' choices, made by anyone.
    fn create(&mut self) {
        let who = self.who();
        let hash = self.dice.one_of(&["BLAKE2B-256-128", "BLAKE3-256", "HMAC-SHA256-128", "BLAKE2S-256"]);
        let cipher = self.dice.one_of(&["AES256-GCM-HMAC-SHA256", "CHACHA20-POLY1305-HMAC-SHA256"]);
        let splitter =
            self.dice.one_of(&["DYNAMIC-4M-BUZHASH", "DYNAMIC-128K-BUZHASH", "DYNAMIC-128K-RABINKARP", "FIXED-1M"]);
        let format = self.dice.one_of(&["1", "2", "3", "3", "3"]);
        // Error correction came with the third.
        let overhead = if format == "3" { self.dice.one_of(&["0", "0", "3"]) } else { "0" };
        let choices = [
            ("block-hash", hash),
            ("encryption", cipher),
            ("object-splitter", splitter),
            ("format-version", format),
            ("ecc-overhead-percent", overhead),
        ];
        self.log.push(format!("create by {who:?} with {choices:?}"));
        let choices = choices.map(|(option, choice)| format!("--{option}={choice}"));
        let choices = choices.each_ref().map(String::as_str);
        fs::create_dir(self.place.path("repo")).unwrap();
        let path = format!("--path={}", self.place.text("repo"));
        match who {
            Who::We => {
                self.place.run(&[["repository", "create"].as_slice(), &choices].concat()).expect(0);
            }
            Who::Kopia(release) => {
                let create = ["repository", "create", "filesystem", &path];
                self.kopia(release).run(&[create.as_slice(), &choices].concat());
            }
        }
        for release in [Release::Newest, Release::Before] {
            // Kopia lists anew only twice a minute; here every step is another program's.
            let connect = ["repository", "connect", "filesystem", &path, "--max-list-cache-duration=0s"];
            self.kopia(release).run(&connect);
        }
        self.kopia(Release::Newest).run(&["maintenance", "set", "--owner=me"]);
    }

    fn kopia(&self, release: Release) -> Kopia<'_> {
        Kopia { place: &self.place, release }
    }

    fn who(&mut self) -> Who {
        match self.dice.below(10) {
            0..5 => Who::We,
            5..8 => Who::Kopia(Release::Newest),
            _ => Who::Kopia(Release::Before),
        }
    }

    fn release(&mut self) -> Release {
        if self.dice.below(3) == 0 { Release::Before } else { Release::Newest }
    }

    fn some_snapshot(&mut self) -> Option<String> {
        let count = self.taken.len();
        (count > 0).then(|| self.dice.below(count as u64) as usize).and_then(|at| self.taken.keys().nth(at).cloned())
    }

    fn say(&mut self, what: String) {
        self.log.push(format!("{:>3} {what}", self.step));
    }

    fn take_step(&mut self) {
        match self.dice.below(100) {
            0..50 => self.edit(),
            50..71 => self.back_up(),
            71..75 => self.forget(),
            75..78 => self.expire(),
            78..80 => self.set_policy(),
            80..86 => self.maintain(),
            86..97 => self.restore(),
            97 => self.verify_by_us(),
            _ => {
                let release = self.release();
                self.verify_by(release);
            }
        }
    }

    fn edit(&mut self) {
        for _ in 0..=self.dice.below(4) {
            let said = self.tree.edit(&mut self.dice);
            self.say(said);
        }
    }

    fn back_up(&mut self) {
        let who = self.who();
        let identity = IDENTITIES[self.dice.below(2) as usize];
        self.say(format!("back up as {identity} by {who:?}"));
        let contains = describe(self.tree.root());
        let id = match who {
            Who::We => {
                let mut arguments = vec!["backup", "tree", "--as", identity, "--json"];
                match self.dice.below(5) {
                    0 => arguments.extend(["--compression", "s2-default"]),
                    1 => arguments.push("--read-all"),
                    _ => {}
                }
                let outcome = self.place.run(&arguments).expect(0).json();
                assert_eq!(outcome["complete"], true);
                outcome["snapshot"].as_str().unwrap().to_owned()
            }
            Who::Kopia(release) => {
                let source = format!("--override-source={identity}");
                let said =
                    self.kopia(release).run(&["snapshot", "create", "--json", &source, &self.place.text("tree")]);
                let made: Value = serde_json::from_str(&said).unwrap();
                made["id"].as_str().unwrap().to_owned()
            }
        };
        let order = self.step;
        self.taken.insert(id, Taken { who, identity, order, contains });
        if who != Who::We {
            // Kopia applies the policy after each backup, to what it has just backed up.
            self.expire_expected(&[identity]);
        }
        self.compare_listing();
    }

    fn forget(&mut self) {
        let Some(id) = self.some_snapshot() else { return };
        let who = self.who();
        self.say(format!("forget {id} by {who:?}"));
        match who {
            Who::We => drop(self.place.run(&["forget", "--snapshot", &id]).expect(0)),
            Who::Kopia(release) => drop(self.kopia(release).run(&["snapshot", "delete", &id, "--delete"])),
        }
        self.taken.remove(&id);
        self.compare_listing();
    }

    fn expire(&mut self) {
        let who = self.who();
        self.say(format!("expire by {who:?}"));
        match who {
            Who::We => drop(self.place.run(&["forget"]).expect(0)),
            Who::Kopia(release) => drop(self.kopia(release).run(&["snapshot", "expire", "--all", "--delete"])),
        }
        self.expire_expected(&IDENTITIES);
        self.compare_listing();
    }

    /// Drops what the policy lets go: all but the newest.
    fn expire_expected(&mut self, identities: &[&str]) {
        for identity in identities {
            let of_identity = self.taken.iter().filter(|(_, taken)| taken.identity == *identity);
            let mut ids: Vec<(u64, String)> = of_identity.map(|(id, taken)| (taken.order, id.clone())).collect();
            ids.sort();
            let gone = ids.len().saturating_sub(self.keep_latest);
            for (_, id) in &ids[..gone] {
                self.taken.remove(id);
            }
        }
    }

    /// Kopia's to write: we read policies and never change them.
    fn set_policy(&mut self) {
        self.keep_latest = 2 + self.dice.below(5) as usize;
        let compression = self.dice.one_of(&["none", "zstd-fastest", "s2-default", "pgzip", "deflate-default"]);
        self.say(format!("policy: keep {}, {compression}", self.keep_latest));
        let latest = format!("--keep-latest={}", self.keep_latest);
        let none = ["hourly", "daily", "weekly", "monthly", "annual"].map(|kept| format!("--keep-{kept}=0"));
        let compression = format!("--compression={compression}");
        let mut arguments = vec!["policy", "set", "--global", &latest, &compression];
        arguments.extend(none.iter().map(String::as_str));
        let release = self.release();
        self.kopia(release).run(&arguments);
    }

    /// Without waiting times, which is safe here only: nobody else writes meanwhile.
    fn maintain(&mut self) {
        let who = self.who();
        let is_full = self.dice.below(3) < 2;
        self.say(format!("maintain, full: {is_full}, by {who:?}"));
        match (who, is_full) {
            (Who::We, true) => {
                drop(self.place.run(&["maintain", "--full", "--safety", "none", "--force"]).expect(0));
            }
            (Who::We, false) => drop(self.place.run(&["maintain", "--safety", "none", "--force"]).expect(0)),
            (Who::Kopia(release), _) => {
                let full = if is_full { "--full" } else { "--no-full" };
                self.kopia(release).run(&["maintenance", "run", full, "--safety=none"]);
            }
        }
    }

    fn restore(&mut self) {
        let Some(id) = self.some_snapshot() else { return };
        let who = self.who();
        self.say(format!("restore {id} by {who:?}"));
        let target = self.place.path("target");
        match who {
            Who::We => drop(self.place.run(&["restore", &id, "target"]).expect(0)),
            Who::Kopia(release) => {
                drop(self.kopia(release).run(&["snapshot", "restore", &id, &self.place.text("target")]));
            }
        }
        self.compare(&id, who);
        fs::remove_dir_all(&target).unwrap();
    }

    /// What lies in the target is what the snapshot must give back, as far as who took it and who restored it can keep it.
    fn compare(&self, id: &str, who: Who) {
        let (found, taken) = (describe(&self.place.path("target")), &self.taken[id]);
        let kept = as_kopia_keeps(&taken.contains);
        match (taken.who, who) {
            (Who::We, Who::We) => assert_eq!(found, taken.contains, "{id}"),
            (Who::Kopia(_), Who::We) => assert_eq!(found, kept, "{id}"),
            (_, Who::Kopia(_)) => assert_eq!(without_times(&found), without_times(&kept), "{id}"),
        }
    }

    fn compare_listing(&self) {
        let listed = self.place.run(&["snapshots", "--all", "--json"]).expect(0).json();
        let mut ids: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, self.taken.keys().collect::<Vec<_>>());
    }

    fn verify_by_us(&mut self) {
        self.say("verify by us".to_owned());
        self.place.run(&["verify", "--read-percent", "100"]).expect(0);
    }

    fn verify_by(&mut self, release: Release) {
        self.say(format!("verify by {release:?}"));
        let kopia = self.kopia(release);
        kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
        kopia.run(&["content", "verify", "--full", "--download-percent=100"]);
        let listed: Value = serde_json::from_str(&kopia.run(&["snapshot", "list", "--all", "--json"])).unwrap();
        assert_eq!(listed.as_array().unwrap().len(), self.taken.len());
    }

    fn verify_by_all(&mut self) {
        self.verify_by_us();
        self.verify_by(Release::Newest);
        self.verify_by(Release::Before);
    }

    fn run(&mut self, steps: u64) {
        for step in 1..=steps {
            self.step = step;
            self.take_step();
            if step % VERIFY_EVERY == 0 || step == steps {
                self.verify_by_all();
            }
        }
        let ids: Vec<String> = self.taken.keys().cloned().collect();
        for id in ids {
            self.place.run(&["restore", &id, "target"]).expect(0);
            self.compare(&id, Who::We);
            fs::remove_dir_all(self.place.path("target")).unwrap();
        }
    }
}

/// Every second seed, from the first or the second on: two tests share them, so that they run side by side.
fn every_second(from: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("PERENNIAL_INTERLEAVE_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 1000);
    let count = number("PERENNIAL_INTERLEAVE_SEEDS").unwrap_or(SEEDS);
    let steps = number("PERENNIAL_INTERLEAVE_STEPS").unwrap_or(STEPS);
    for seed in (from..count).step_by(2).map(|further| first + further) {
        println!("PERENNIAL_INTERLEAVE_SEED={seed} PERENNIAL_INTERLEAVE_SEEDS=1 PERENNIAL_INTERLEAVE_STEPS={steps}");
        World::new(seed).run(steps);
    }
}

#[test]
fn random_steps_by_us_and_kopia_lose_nothing() {
    every_second(0);
}

#[test]
fn random_steps_by_kopia_and_us_lose_nothing() {
    every_second(1);
}

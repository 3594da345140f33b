//! A tree of files that changes at random.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat};

use super::dice::Dice;

/// The large file: a few pieces of the larger splitters, some dozen of the smaller.
const LARGE_BYTES: usize = 1_500_000;
/// More entries than this are not made.
const ENTRIES_MAX: usize = 150;
const NAMES: [&str; 12] =
    ["a", "B", "file.txt", "with space", "ünïcödé", "漢字", "new\nline", "<&>\"'\\", ".hidden", "%20", "-dash", "long"];

pub struct Tree {
    root: PathBuf,
    made_count: u64,
}

impl Tree {
    pub fn plant(root: &Path, dice: &mut Dice) -> Self {
        fs::create_dir(root).unwrap();
        let mut tree = Self { root: root.to_owned(), made_count: 0 };
        fs::write(root.join("large"), dice.bytes(LARGE_BYTES)).unwrap();
        for _ in 0..20 {
            tree.create(dice);
        }
        tree
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One change, said in words.
    pub fn edit(&mut self, dice: &mut Dice) -> String {
        match dice.below(21) {
            0..3 => self.create(dice),
            3 => self.deepen(dice),
            4 => self.link(dice),
            5..7 => self.with_file(dice, "grow", |path, dice| {
                let mut bytes = fs::read(path).unwrap();
                let more = dice.below(40_000) as usize;
                bytes.extend(dice.bytes(more));
                fs::write(path, bytes).unwrap();
            }),
            7 => self.with_file(dice, "shrink", |path, dice| {
                let length = fs::metadata(path).unwrap().len();
                fs::File::options().write(true).open(path).unwrap().set_len(dice.below(length + 1)).unwrap();
            }),
            8 => self.rename(dice),
            9 => self.delete(dice),
            10 => self.with_any(dice, "chmod", |path, dice| {
                let mode = dice.one_of(&[0o644, 0o600, 0o755, 0o4755, 0o2750, 0o1777, 0o000, 0o444]);
                // Who is not root must still get in.
                let mode = if rustix::process::geteuid().is_root() { mode } else { mode | 0o700 };
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }),
            11 => self.with_any(dice, "touch", |path, dice| {
                let seconds = dice.below(4_000_000_000);
                let time = UNIX_EPOCH + Duration::new(seconds, dice.below(1_000_000_000) as u32);
                fs::File::open(path).unwrap().set_modified(time).unwrap();
            }),
            12 => self.with_any(dice, "chown", |path, dice| {
                if rustix::process::geteuid().is_root() {
                    lchown(path, Some(dice.below(3) as u32 * 1000), Some(dice.below(3) as u32 * 500)).unwrap();
                }
            }),
            13 => self.with_any(dice, "set an attribute of", |path, dice| {
                let name = format!("user.{}", dice.one_of(&["comment", "ünï", "a b"]));
                let length = dice.one_of(&[0, 3, 200]);
                rustix::fs::setxattr(path, &name, &dice.bytes(length), XattrFlags::empty()).unwrap();
            }),
            14 => self.hard_link(dice),
            15 => self.foreign(dice),
            16 => self.sparse(dice),
            17 => self.pipe(dice),
            _ => self.patch(dice),
        }
    }

    fn hard_link(&mut self, dice: &mut Dice) -> String {
        let Some(file) = self.pick(dice, |path| is_file(path) && !is_large(path)) else { return String::new() };
        let path = self.new_path(dice);
        fs::hard_link(&file, &path).unwrap();
        format!("{} to {:?}", self.say("hard link", &path), file.strip_prefix(&self.root).unwrap())
    }

    /// A file or directory whose name is not UTF-8, and does not become another's where such bytes are replaced.
    fn foreign(&mut self, dice: &mut Dice) -> String {
        self.made_count += 1;
        let name = [b"caf\xe9 ".as_slice(), self.made_count.to_string().as_bytes(), b"\xff"].concat();
        let path = self.directory(dice).join(OsStr::from_bytes(&name));
        if dice.below(3) == 0 {
            fs::create_dir(&path).unwrap();
        } else {
            fs::write(&path, dice.bytes(300)).unwrap();
        }
        self.say("create", &path)
    }

    fn sparse(&mut self, dice: &mut Dice) -> String {
        let path = self.new_path(dice);
        let file = fs::File::create(&path).unwrap();
        file.set_len(dice.below(3_000_000)).unwrap();
        for _ in 0..dice.below(3) {
            let (at, length) = (dice.below(2_000_000), dice.below(50_000) as usize);
            file.write_all_at(&dice.bytes(length), at).unwrap();
        }
        self.say("create with holes", &path)
    }

    fn pipe(&mut self, dice: &mut Dice) -> String {
        let path = self.new_path(dice);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        self.say("make pipe", &path)
    }

    /// Everything below the root: directories or not.
    fn entries(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.root.clone()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                }
                found.push(entry.path());
            }
        }
        found.sort();
        found
    }

    fn pick(&self, dice: &mut Dice, wanted: fn(&Path) -> bool) -> Option<PathBuf> {
        let mut found = self.entries();
        found.retain(|path| wanted(path));
        (!found.is_empty()).then(|| found.swap_remove(dice.below(found.len() as u64) as usize))
    }

    fn directory(&self, dice: &mut Dice) -> PathBuf {
        if dice.below(3) == 0 {
            return self.root.clone();
        }
        self.pick(dice, is_directory).unwrap_or_else(|| self.root.clone())
    }

    /// A name that is not taken.
    fn new_path(&mut self, dice: &mut Dice) -> PathBuf {
        self.made_count += 1;
        let name = format!("{} {}", dice.one_of(&NAMES), self.made_count);
        self.directory(dice).join(name)
    }

    fn say(&self, what: &str, path: &Path) -> String {
        format!("{what} {:?}", path.strip_prefix(&self.root).unwrap())
    }

    fn create(&mut self, dice: &mut Dice) -> String {
        if self.entries().len() >= ENTRIES_MAX {
            return self.delete(dice);
        }
        let path = self.new_path(dice);
        if dice.below(4) == 0 {
            fs::create_dir(&path).unwrap();
            return self.say("make directory", &path);
        }
        let length = match dice.below(8) {
            0 => 0,
            1 => dice.below(300_000),
            _ => dice.below(5_000),
        };
        fs::write(&path, dice.bytes(length as usize)).unwrap();
        self.say("create", &path)
    }

    fn deepen(&mut self, dice: &mut Dice) -> String {
        let top = self.new_path(dice);
        let mut path = top.clone();
        for level in 0..dice.below(12) {
            path.push(format!("level {level}"));
        }
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("bottom"), dice.bytes(100)).unwrap();
        self.say("deepen", &top)
    }

    fn link(&mut self, dice: &mut Dice) -> String {
        let path = self.new_path(dice);
        let target = self.pick(dice, |_| true).unwrap_or_else(|| "nowhere".into());
        symlink(dice.one_of(&[target.as_path(), Path::new("../no/where"), Path::new("."), Path::new("ünï")]), &path)
            .unwrap();
        self.say("link", &path)
    }

    fn with_file(&self, dice: &mut Dice, what: &str, change: impl Fn(&Path, &mut Dice)) -> String {
        let Some(path) = self.pick(dice, |path| is_file(path) && !is_large(path)) else { return String::new() };
        change(&path, dice);
        self.say(what, &path)
    }

    fn with_any(&self, dice: &mut Dice, what: &str, change: impl Fn(&Path, &mut Dice)) -> String {
        let Some(path) = self.pick(dice, |path| is_file(path) || is_directory(path)) else { return String::new() };
        change(&path, dice);
        self.say(what, &path)
    }

    fn rename(&mut self, dice: &mut Dice) -> String {
        let Some(from) = self.pick(dice, |path| !is_large(path)) else { return String::new() };
        let to = self.new_path(dice);
        if to.starts_with(&from) {
            return self.say("leave", &from);
        }
        fs::rename(&from, &to).unwrap();
        format!("{} to {:?}", self.say("rename", &from), to.strip_prefix(&self.root).unwrap())
    }

    fn delete(&mut self, dice: &mut Dice) -> String {
        let Some(path) = self.pick(dice, |path| !is_large(path)) else { return String::new() };
        if is_directory(&path) { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.unwrap();
        self.say("delete", &path)
    }

    /// A few bytes of the large file.
    fn patch(&self, dice: &mut Dice) -> String {
        let path = self.root.join("large");
        let file = fs::File::options().write(true).open(&path).unwrap();
        for _ in 0..=dice.below(3) {
            let at = dice.below(LARGE_BYTES as u64);
            file.write_all_at(&dice.next().to_le_bytes(), at).unwrap();
        }
        self.say("patch", &path)
    }
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).unwrap().is_dir()
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).unwrap().is_file()
}

fn is_large(path: &Path) -> bool {
    path.ends_with("large")
}

//! Trees of files with everything that can be said of them, as a pod sees them: to compare what is there before and after.
//!
//! Judged by other people's programs: find, stat, sha256sum, getfattr. What differs between copies and means nothing is left
//! out: inodes, sizes of directories, when something was last read, when its attributes were changed.

use crate::builders::Pod;
use crate::kinds::POD;
use crate::space::Space;
use anyhow::{Result, ensure};
use serde_json::json;
use std::collections::BTreeSet;

/// Where a pod of ours has the claim.
const PLACE: &str = "/tree";

/// Everything below the working directory, in an order that does not hang on the file system. Names of one file are told
/// by the first of them.
const LIST: &str = r##"find . ! -type d -print0 | sort -z | xargs -0 -r stat -c '%N %F %a %u:%g %s %t:%T links %h time %y'
find . -type d -print0 | sort -z | xargs -0 -r stat -c '%N %F %a %u:%g time %y'
find . -type f -print0 | sort -z | xargs -0 -r sha256sum
find . ! -type d -links +1 -print0 | sort -z | xargs -0 -r stat -c '%i %n' |
    awk '{ inode = $1; sub(/^[0-9]+ /, ""); if (inode in first) print $0 " is " first[inode]; else first[inode] = $0 }'
find . -print0 | sort -z | xargs -0 -r getfattr -h -d -m - -e hex --absolute-names |
    awk '/^# file: / { name = substr($0, 9); next } NF { print name " has " $0 }'"##;

/// All kinds of files, and everything that attributes can say: owners, modes with special bits, times, extended
/// attributes, access control lists (also those that a directory hands down), capabilities, holes, several names.
const FILL: &str = r#"mkdir -p a/b 'a/with space' a/empty
echo one >a/one
ln a/one a/b/same
ln -s ../a/one a/link
ln -s nowhere a/dangling
mkfifo a/pipe
mknod a/null c 1 3
mknod a/disk b 7 200
printf x | dd of=a/holes bs=1 seek=1000000 2>/dev/null
: >a/nothing
dd if=/dev/urandom of=a/random bs=100000 count=30 2>/dev/null
echo x >"a/$(printf 'new\nline\377')"
echo secret >a/b/secret
chmod 600 a/b/secret
chown 1234:5678 a/b/secret
chown -h 12:34 a/link
chmod 1750 'a/with space'
setfattr -n user.comment -v 'a note' a/one
setfattr -n user.empty a/one
setfattr -n user.bytes -v 0x00ff0a a/b/secret
setfattr -n user.directory -v yes a/b
setfattr -n user.long -v $(head -c 1000 /dev/zero | tr '\0' x) a/nothing
setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 a/random
setfacl -m u:1000:rw,g:2000:r a/one
setfacl -m u:1001:rwx 'a/with space'
setfacl -d -m u:1002:rx,o::- a/b
chmod 4755 a/random
chmod 2775 a/b
setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 a/random
touch -d '2001-02-03 04:05:06' a/one
touch -h -d '1999-12-31 23:59:59' a/link
touch -d '2030-01-01 00:00:00' a/b"#;

impl Space {
    /// Fills a claim with a tree `a` of all kinds of files and attributes.
    pub async fn fill_tree(&self, claim: &str) -> Result<()> {
        self.on_claim(claim, FILL, false).await.map(drop)
    }

    /// Everything that can be said of the files in a directory of a claim, a line each; `.` is all of the claim.
    pub async fn tree(&self, claim: &str, directory: &str) -> Result<String> {
        self.on_claim(claim, &format!("cd './{directory}'\n{{ {LIST}\n}} | cat -v"), true).await
    }

    /// Runs a script in a claim to its end, as root, and answers what it said.
    async fn on_claim(&self, claim: &str, script: &str, read_only: bool) -> Result<String> {
        let script = format!("set -e -o pipefail\ncd {PLACE}\n{script}");
        let mut pod = Pod::tools("", &script);
        pod = if read_only { pod.mount_read_only(claim, PLACE) } else { pod.mount(claim, PLACE) };
        let pod = pod.with_container("securityContext", json!({"runAsUser": 0, "runAsGroup": 0}));
        let mut body = pod.build();
        body["metadata"] = json!({"generateName": "tree-"});
        let made = self.create_object(&POD, body).await?;
        let name = made["metadata"]["name"].as_str().unwrap_or_default();
        let said = self.succeeded(name).await?;
        self.delete_object(&POD, name).await?;
        Ok(said)
    }
}

/// Nothing if both trees are the same, else an error with the lines that one of them has alone.
pub fn same_trees(before: &str, after: &str) -> Result<()> {
    let lines = |tree: &str| tree.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (first, second) = (lines(before), lines(after));
    let told = |mark: &'static str, these: &BTreeSet<String>, others: &BTreeSet<String>| {
        these.difference(others).map(|line| format!("\n{mark} {line}")).collect::<String>()
    };
    let differences = told("-", &first, &second) + &told("+", &second, &first);
    ensure!(differences.is_empty() && before.len() == after.len(), "the trees differ:{differences}");
    ensure!(!before.is_empty(), "both trees are empty");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_their_lines() {
        assert!(same_trees("a\nb\n", "a\nb\n").is_ok());
        assert!(same_trees("", "").is_err());
        let error = same_trees("a\nb 1\n", "a\nb 2\n").unwrap_err().to_string();
        assert_eq!(error, "the trees differ:\n- b 1\n+ b 2");
    }
}

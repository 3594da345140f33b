//! The cluster's control groups. They are what `down` trusts: a file with a process's number is gone with the directory
//! it lies in, and the number may be somebody else's by then; every process of the node inherits its group.

use crate::cluster::pause;
use crate::cluster::settings::{Cluster, GROUP_PREFIX};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A killed process may take this long to be gone, and a group whose last one is still ending refuses removal as long.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// The group below the cluster's own that all processes of the node are in, containers left out.
const NODE: &str = "node";

/// Where this machine's hierarchies are mounted.
pub struct Hierarchies {
    /// One for each controller, and the named ones (cgroup v1).
    separate: Vec<PathBuf>,
    /// The one for all (cgroup v2); beside the others it has no controllers.
    unified: Option<PathBuf>,
}

impl Hierarchies {
    /// Asks the kernel.
    pub fn find() -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read the machine's mounts")?;
        Ok(Self::parse(&mounts))
    }

    fn parse(mounts: &str) -> Self {
        let mounted = |kind: &str| {
            let lines = mounts.lines().filter_map(|line| line.split_once(" - "));
            let fitting = lines.filter(|(_, rest)| rest.split_whitespace().next() == Some(kind));
            fitting.filter_map(|(mount, _)| mount.split(' ').nth(4).map(PathBuf::from)).collect::<Vec<_>>()
        };
        Self { separate: mounted("cgroup"), unified: mounted("cgroup2").into_iter().next() }
    }

    /// Is there what a node needs?
    pub fn are_enough(&self) -> bool {
        let has = |controller: &str| {
            let listed = |path: &PathBuf| {
                let controllers = std::fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
                controllers.split_whitespace().any(|found| found == controller)
            };
            self.separate.iter().any(|path| path.ends_with(controller)) || self.unified.iter().any(listed)
        };
        ["cpu", "cpuset", "memory", "pids"].into_iter().all(has) && self.tracker().is_some()
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.separate.iter().chain(&self.unified)
    }

    /// The hierarchy by which the node's processes are found.
    fn tracker(&self) -> Option<&PathBuf> {
        self.unified.as_ref().or_else(|| self.separate.iter().find(|path| path.ends_with("systemd")))
    }

    /// Makes the cluster's group everywhere and answers the file that a process writes its number into to join.
    pub fn create(&self, cluster: &Cluster) -> Result<PathBuf> {
        for hierarchy in self.all() {
            let group = hierarchy.join(cluster.group());
            std::fs::create_dir_all(&group).with_context(|| format!("make {}", group.display()))?;
            if hierarchy.ends_with("cpuset") {
                // A new group has neither CPUs nor memory nodes, and refuses processes until it has both.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let value =
                        std::fs::read_to_string(hierarchy.join(file)).with_context(|| format!("read {file}"))?;
                    write(&group.join(file), &value)?;
                }
            }
        }
        if self.separate.is_empty() {
            self.delegate(cluster)?;
        }
        let tracker = self.tracker().context("there is no hierarchy of control groups to find processes by")?;
        let node = tracker.join(cluster.group()).join(NODE);
        std::fs::create_dir_all(&node).with_context(|| format!("make {}", node.display()))?;
        Ok(node.join("cgroup.procs"))
    }

    /// In the hierarchy for all, controllers have to be handed down group by group.
    fn delegate(&self, cluster: &Cluster) -> Result<()> {
        let Some(unified) = &self.unified else { return Ok(()) };
        let controllers =
            std::fs::read_to_string(unified.join("cgroup.controllers")).context("read the controllers")?;
        let all: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
        for group in [unified.clone(), unified.join(cluster.group())] {
            write(&group.join("cgroup.subtree_control"), &all.join(" "))?;
        }
        Ok(())
    }

    /// Numbers of all processes of the node.
    pub fn processes(&self, cluster: &Cluster) -> Vec<i32> {
        let groups = self.tracker().into_iter().flat_map(|tracker| tree(&tracker.join(cluster.group())));
        let texts = groups.filter_map(|group| std::fs::read_to_string(group.join("cgroup.procs")).ok());
        texts.flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<i32>>()).collect()
    }

    /// Names of the clusters that have a group, whatever became of their directories.
    pub fn names(&self) -> Vec<String> {
        let entries = self.tracker().and_then(|tracker| std::fs::read_dir(tracker).ok()).into_iter().flatten();
        let names = entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.strip_prefix(GROUP_PREFIX).map(str::to_owned)).collect()
    }

    /// Kills every process of the node, and waits until the last one is gone. The first of its namespace takes all
    /// others along, and with them go mounts, links, routes and rules.
    pub fn kill(&self, cluster: &Cluster) -> Result<()> {
        let started = Instant::now();
        loop {
            let processes = self.processes(cluster);
            if processes.is_empty() {
                return Ok(());
            }
            if started.elapsed() > END_TIMEOUT {
                bail!("processes {processes:?} of cluster {} do not end", cluster.name);
            }
            for process in processes.into_iter().filter_map(rustix::process::Pid::from_raw) {
                // One that has ended by itself meanwhile is as good.
                let _ended = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            }
            pause();
        }
    }

    /// Removes the groups, leaves first.
    pub fn remove(&self, cluster: &Cluster) -> Result<()> {
        let started = Instant::now();
        for hierarchy in self.all() {
            let top = hierarchy.join(cluster.group());
            while top.exists() {
                for group in tree(&top).iter().rev() {
                    let _busy = std::fs::remove_dir(group);
                }
                if top.exists() {
                    if started.elapsed() > END_TIMEOUT {
                        bail!("cannot remove the control group {}", top.display());
                    }
                    pause();
                }
            }
        }
        Ok(())
    }
}

/// A group and all below it, parents first.
fn tree(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(group) = open.pop() {
        let entries = std::fs::read_dir(&group).into_iter().flatten().filter_map(Result::ok);
        open.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
        found.push(group);
    }
    found
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_among_the_mounts() {
        let found = Hierarchies::parse(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
             41 31 0:37 / /sys/fs/cgroup/systemd rw shared:4 - cgroup cgroup rw,name=systemd\n\
             42 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(found.separate, [PathBuf::from("/sys/fs/cgroup/cpu"), PathBuf::from("/sys/fs/cgroup/systemd")]);
        assert_eq!(found.tracker(), Some(&PathBuf::from("/sys/fs/cgroup/unified")));
        let newer = Hierarchies::parse("31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert!(newer.separate.is_empty());
        assert_eq!(newer.tracker(), Some(&PathBuf::from("/sys/fs/cgroup")));
    }
}

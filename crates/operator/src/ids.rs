//! As whom a mover reads or writes a volume. Source: zero-touch H21.
//!
//! The first of these that says something: what somebody has set; what is recorded, of the snapshot or of the last backup;
//! as whom the pods run that use the claim; the usual ones. Nobody is root without elevated rights.

use api::mover::{Outcome, Report};
use api::owner;
use api::v1alpha1::policy::Mover;
use api::v1alpha1::store::Store;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PodSecurityContext;
use serde::{Deserialize, Serialize};

use crate::consumers::{Consumer, User};

/// A user and its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ids {
    /// User.
    pub uid: i64,
    /// Group.
    pub gid: i64,
    /// The group that the volume is given to; it stays whose it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<i64>,
}

impl Ids {
    /// The same number for all three.
    pub const fn alike(id: i64) -> Self {
        Self { uid: id, gid: id, fs_group: Some(id) }
    }
}

/// As whom movers of protected claims run where nobody knows better.
pub const USUAL: Ids = Ids::alike(568);

/// The ids of a policy's mover: what the policy says, and what is known for the rest.
pub fn of_policy(mover: &Mover, known: Option<Ids>) -> Ids {
    match mover.uid {
        Some(uid) => {
            let gid = mover.gid.unwrap_or(uid);
            Ids { uid, gid, fs_group: mover.fs_group.or(Some(gid)) }
        }
        None => {
            let found = known.unwrap_or(USUAL);
            Ids { uid: found.uid, gid: mover.gid.unwrap_or(found.gid), fs_group: mover.fs_group.or(found.fs_group) }
        }
    }
}

/// Whether the movers of a repository may be different users. What lies in a directory only its owner may read: there all
/// are the policy's, or the usual one.
pub fn may_differ(store: &Store) -> bool {
    match store {
        Store::S3(_) => true,
        Store::Nfs(_) | Store::Claim(_) => false,
    }
}

/// What a policy's mover sets in so many words, as sources and destinations spell it; none where it leaves all open.
pub fn set_by(mover: &Mover) -> Option<PodSecurityContext> {
    let is_any = mover.uid.or(mover.gid).or(mover.fs_group).is_some();
    is_any.then(|| {
        let ids = of_policy(mover, None);
        PodSecurityContext {
            run_as_user: Some(ids.uid),
            run_as_group: Some(ids.gid),
            fs_group: ids.fs_group,
            ..PodSecurityContext::default()
        }
    })
}

/// As whom a snapshot is restored whose owner is recorded: the volume is new and given to the owner's group.
pub fn of_snapshot(owner: Option<owner::Ids>) -> Option<Ids> {
    let owner = owner.filter(|owner| owner.uid != 0)?;
    let gid = i64::from(owner.gid);
    Some(Ids { uid: owner.uid.into(), gid, fs_group: Some(gid) })
}

/// As whom the pods use a claim; the first that says anything counts. What they leave open is as in `usual`.
pub fn of_consumers(consumers: &[Consumer], usual: Ids) -> Option<Ids> {
    consumers.iter().find_map(|consumer| of_user(consumer.user, usual))
}

fn of_user(User { uid, gid, fs_group }: User, usual: Ids) -> Option<Ids> {
    match (uid.filter(|uid| *uid != 0), fs_group) {
        (Some(uid), fs_group) => Some(Ids { uid, gid: gid.or(fs_group).unwrap_or(uid), fs_group }),
        // The image says as whom, and nobody sees that; the group is known.
        (None, Some(fs_group)) => Some(Ids { uid: usual.uid, gid: fs_group, fs_group: Some(fs_group) }),
        (None, None) => None,
    }
}

/// As whom a Job's mover ran; none for one with elevated rights.
fn of_job(job: &Job) -> Option<Ids> {
    let pod = job.spec.as_ref()?.template.spec.as_ref()?;
    let is_elevated = pod
        .containers
        .iter()
        .any(|container| container.security_context.as_ref().is_some_and(|security| security.run_as_user == Some(0)));
    let all = pod.security_context.as_ref().filter(|_| !is_elevated)?;
    Some(Ids { uid: all.run_as_user?, gid: all.run_as_group?, fs_group: all.fs_group })
}

/// What the end of a backup teaches for the next one: what has read everything is kept, and where something could not be
/// read, its owners may do better. The usual ids are not worth keeping.
pub fn learned(job: &Job, report: &Report) -> Option<Ids> {
    let ran = of_job(job)?;
    match report.outcome {
        Outcome::Complete => Some(ran).filter(|ran| *ran != USUAL),
        Outcome::Partial => {
            let owner = report.owners.first().map(|owner| owner::Ids { uid: owner.uid, gid: owner.gid });
            of_snapshot(owner).filter(|ids| ids.uid != ran.uid)
        }
        Outcome::Nothing | Outcome::Failed { .. } | Outcome::Interrupted => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::mover::Owner;
    use serde_json::json;

    #[test]
    fn what_somebody_sets_counts_first() {
        let reader = Ids { uid: 1234, gid: 5, fs_group: None };
        let known = Some(reader);
        let with = |spec| serde_json::from_value::<Mover>(spec).unwrap();
        assert_eq!(of_policy(&Mover::default(), None), USUAL);
        assert_eq!(of_policy(&Mover::default(), known), reader);
        assert_eq!(of_policy(&with(json!({"uid": 7})), known), Ids::alike(7));
        assert_eq!(of_policy(&with(json!({"uid": 7, "gid": 8})), known), Ids { uid: 7, gid: 8, fs_group: Some(8) });
        assert_eq!(of_policy(&with(json!({"fsGroup": 9})), known), Ids { uid: 1234, gid: 5, fs_group: Some(9) });
        assert_eq!(set_by(&Mover::default()), None);
        let context = set_by(&with(json!({"uid": 7}))).unwrap();
        assert_eq!((context.run_as_user, context.run_as_group, context.fs_group), (Some(7), Some(7), Some(7)));
    }

    #[test]
    fn owners_of_snapshots_but_never_root() {
        let of = |uid, gid| of_snapshot(Some(owner::Ids { uid, gid }));
        assert_eq!(of(1234, 5), Some(Ids { uid: 1234, gid: 5, fs_group: Some(5) }));
        assert_eq!(of(0, 0), None);
        assert_eq!(of_snapshot(None), None);
    }

    #[test]
    fn pods_that_use_the_claim() {
        let of = |uid, gid, fs_group| of_user(User { uid, gid, fs_group }, USUAL);
        assert_eq!(of(Some(1), Some(2), Some(3)), Some(Ids { uid: 1, gid: 2, fs_group: Some(3) }));
        assert_eq!(of(Some(1), None, Some(3)), Some(Ids { uid: 1, gid: 3, fs_group: Some(3) }));
        assert_eq!(of(Some(1), None, None), Some(Ids { uid: 1, gid: 1, fs_group: None }));
        assert_eq!(of(Some(0), Some(0), Some(3)), Some(Ids { uid: 568, gid: 3, fs_group: Some(3) }));
        assert_eq!(of(None, None, None), None);
    }

    #[test]
    fn a_backup_teaches_as_whom_the_next_one_runs() {
        let job = |uid: i64| -> Job {
            serde_json::from_value(json!({"spec": {"template": {"spec": {
                "containers": [], "securityContext": {"runAsUser": uid, "runAsGroup": uid, "fsGroup": uid},
            }}}}))
            .unwrap()
        };
        let report = |outcome| {
            let owners = vec![Owner { uid: 1234, gid: 5, files: 9 }];
            Report { owners, ..Report::new(outcome) }
        };
        assert_eq!(learned(&job(1000), &report(Outcome::Complete)), Some(Ids::alike(1000)));
        assert_eq!(learned(&job(568), &report(Outcome::Complete)), None);
        let owner = Ids { uid: 1234, gid: 5, fs_group: Some(5) };
        assert_eq!(learned(&job(568), &report(Outcome::Partial)), Some(owner));
        assert_eq!(learned(&job(1234), &report(Outcome::Partial)), None);
        assert_eq!(learned(&job(1000), &report(Outcome::Nothing)), None);
    }
}

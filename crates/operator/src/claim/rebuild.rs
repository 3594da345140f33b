//! Whether a rebuild is one in which everything would start empty although backups are known: then it stops after the
//! first few, until a person says that this is meant.
//!
//! Counted from the claims that are there and what was decided about them, so that it outlives the operator. Only what was
//! admitted a moment ago, and is not in the cache yet, is remembered.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::decide::{Decision, MassFreshGuard};
use api::naming::ClaimKey;
use api::recorded::{Recorded, Verdict};
use api::v1alpha1::BackupRepository;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use super::judge::{Judgement, judge};
use super::{is_unbound, namespace_of};
use crate::context::Context;
use crate::names::DECISION;

/// Claims that come within this time belong to one rebuild.
const SPAN: Duration = Duration::from_secs(24 * 60 * 60);

/// UIDs of claims that may start empty, by repository.
#[derive(Debug, Default)]
pub struct Admitted {
    by_repository: Mutex<HashMap<String, HashSet<String>>>,
}

/// The decision about a claim without a volume, or a hold in its place.
pub fn admit(
    context: &Context,
    claim: &PersistentVolumeClaim,
    repository: &BackupRepository,
    decision: Decision,
) -> Decision {
    let name = repository.name_any();
    if !matches!(decision, Decision::Fresh { .. }) || !context.ledger.knows(&name) {
        return decision;
    }
    let uid = claim.uid().unwrap_or_default();
    let mut admitted = context.admitted.by_repository.lock().unwrap_or_else(PoisonError::into_inner);
    let since = claim.creation_timestamp().map_or_else(|| context.now(), |time| time.0);
    let seen = look_round(context, &name, &uid, since);
    let here = admitted.entry(name).or_default();
    here.retain(|uid| seen.undecided.contains(uid));
    let begun = here.iter().filter(|other| **other != uid).count();
    let guard = MassFreshGuard {
        restored: u64::from(seen.is_proven),
        fresh: seen.fresh.saturating_add(u64::try_from(begun).unwrap_or(u64::MAX)),
        threshold: u64::from(repository.spec.mass_fresh.threshold),
        expected: seen.expected,
        confirmed: repository.spec.mass_fresh_confirmed(repository.status.as_ref()).is_some(),
    };
    let decision = guard.admit(decision);
    if matches!(decision, Decision::Fresh { .. }) {
        here.insert(uid);
    }
    decision
}

/// Whether a restore, or a day of backups, shows that the repository is the right one.
pub fn is_over(context: &Context, repository: &str) -> bool {
    look_round(context, repository, "", context.now()).is_proven
}

/// What the other claims of a repository say.
#[derive(Debug, Default)]
struct Seen {
    is_proven: bool,
    /// How many started empty in this rebuild.
    fresh: u64,
    /// Backups that the cluster's ledger knows beside those of claims which started here.
    expected: u64,
    /// UIDs of claims of which nothing is decided.
    undecided: HashSet<String>,
}

fn look_round(context: &Context, repository: &str, except: &str, since: Timestamp) -> Seen {
    let policies = context.caches.policies_in_order();
    let known = context.ledger.count(repository);
    let mut seen = Seen::default();
    let mut started_here: u64 = 0;
    for claim in context.caches.claims.state() {
        let uid = claim.uid().unwrap_or_default();
        if uid == except {
            continue;
        }
        let recorded = Recorded::read(claim.annotations().get(DECISION).map(String::as_str), &uid);
        let Some(recorded) = recorded.filter(|recorded| !recorded.verdict.is_hold()) else {
            seen.undecided.insert(uid);
            continue;
        };
        let labels = namespace_of(&claim, context).map(|namespace| namespace.labels().clone()).unwrap_or_default();
        let Judgement::Protected(protection) = judge(&claim, &labels, &policies) else { continue };
        if protection.policy.spec.repository != repository {
            continue;
        }
        let Ok(names) = ClaimKey::new(claim.namespace().unwrap_or_default(), claim.name_any()) else { continue };
        let has_backup = context.ledger.of(repository, &names).is_some() && !is_unbound(&claim);
        let is_of_this_rebuild = recorded.time.checked_add(SPAN).is_ok_and(|until| until > since);
        match recorded.verdict {
            Verdict::Restore { .. } => seen.is_proven = true,
            Verdict::Fresh { .. } | Verdict::Kept { .. } if has_backup && !is_of_this_rebuild => seen.is_proven = true,
            Verdict::Fresh { .. } if is_of_this_rebuild => {
                seen.fresh += 1;
                started_here += u64::from(has_backup);
            }
            Verdict::Fresh { .. } | Verdict::Kept { .. } => started_here += u64::from(has_backup),
            Verdict::Hold { .. } => {}
        }
    }
    seen.expected = known.saturating_sub(started_here);
    seen
}

//! Rules of BackupRepository.

use super::{ChangeRule, Rule, Violation};
use crate::mover::Layout;
use crate::v1alpha1::BackupRepositorySpec;
use crate::v1alpha1::credentials::{Credentials, Fetch};
use crate::v1alpha1::namespaces::Namespaces;
use crate::v1alpha1::store::Store;

/// What a spec must not say.
pub const RULES: &[Rule<BackupRepositorySpec>] = &[
    Rule {
        places: &["spec"],
        cel: "!has(self.id) || self.layout == 'Shared'",
        message: "id pins one repository, but with layout PerClaim every claim has its own: leave id out",
        is_kept: id_is_of_a_shared_repository,
    },
    Rule {
        places: &["spec.store.s3"],
        cel: "!has(self.insecure) || !self.insecure || !self.endpoint.startsWith('https://')",
        message: "insecure contradicts an endpoint that begins with https://: leave one of them out",
        is_kept: insecure_fits_the_endpoint,
    },
    Rule {
        places: &["spec"],
        cel: "!has(self.store.s3) || !has(self.credentials.externalSecret) \
              || !has(self.credentials.externalSecret.fetch.values) \
              || (has(self.credentials.externalSecret.fetch.values.accessKey) \
              && has(self.credentials.externalSecret.fetch.values.secretKey))",
        message: "a bucket needs keys: say accessKey and secretKey in credentials.externalSecret.fetch.values",
        is_kept: bucket_has_its_keys,
    },
    Rule {
        places: &["spec.allowedNamespaces"],
        cel: "has(self.names) || has(self.selector)",
        message: "say names, a selector or both; without allowedNamespaces all namespaces are allowed",
        is_kept: allowed_namespaces_are_said,
    },
];

/// What must not change.
pub const CHANGE_RULES: &[ChangeRule<BackupRepositorySpec>] = &[
    ChangeRule {
        place: "spec.format",
        cel: "self == oldSelf",
        message: "format cannot be changed: make another BackupRepository for the other format",
        is_kept: format_stays,
    },
    ChangeRule {
        place: "spec.layout",
        cel: "self == oldSelf",
        message: "layout cannot be changed, since what is there would not be found: make another BackupRepository",
        is_kept: layout_stays,
    },
    ChangeRule {
        place: "spec",
        cel: "!has(oldSelf.id) || (has(self.id) && self.id == oldSelf.id)",
        message: "id is pinned and cannot be changed: if another repository is meant, make another BackupRepository",
        is_kept: id_stays,
    },
    ChangeRule {
        place: "spec",
        cel: "self.layout != 'Shared' || (has(self.clusterName) == has(oldSelf.clusterName) \
              && (!has(self.clusterName) || self.clusterName == oldSelf.clusterName))",
        message: "clusterName is part of every identity in a shared repository and cannot be changed: \
                  make another BackupRepository",
        is_kept: cluster_name_stays,
    },
];

/// The rules that a spec breaks.
pub fn violations(spec: &BackupRepositorySpec) -> Vec<Violation> {
    super::broken(RULES, spec)
}

/// The rules that a change of a spec breaks.
pub fn change_violations(old: &BackupRepositorySpec, new: &BackupRepositorySpec) -> Vec<Violation> {
    super::broken_by_change(CHANGE_RULES, old, new)
}

fn id_is_of_a_shared_repository(spec: &BackupRepositorySpec) -> bool {
    spec.id.is_none() || spec.layout == Layout::Shared
}

fn insecure_fits_the_endpoint(spec: &BackupRepositorySpec) -> bool {
    match &spec.store {
        Store::S3(s3) => !(s3.insecure && s3.endpoint.starts_with("https://")),
        Store::Nfs(_) | Store::Claim(_) => true,
    }
}

fn bucket_has_its_keys(spec: &BackupRepositorySpec) -> bool {
    match (&spec.store, &spec.credentials) {
        (Store::S3(_), Credentials::ExternalSecret(secret)) => match &secret.fetch {
            Fetch::Values(values) => values.access_key.is_some() && values.secret_key.is_some(),
            Fetch::Record(_) => true,
        },
        (Store::Nfs(_) | Store::Claim(_), _) | (Store::S3(_), Credentials::SecretRef(_)) => true,
    }
}

fn allowed_namespaces_are_said(spec: &BackupRepositorySpec) -> bool {
    spec.allowed_namespaces.as_ref().is_none_or(Namespaces::is_said)
}

fn format_stays(old: &BackupRepositorySpec, new: &BackupRepositorySpec) -> bool {
    old.format == new.format
}

fn layout_stays(old: &BackupRepositorySpec, new: &BackupRepositorySpec) -> bool {
    old.layout == new.layout
}

fn id_stays(old: &BackupRepositorySpec, new: &BackupRepositorySpec) -> bool {
    old.id.is_none() || old.id == new.id
}

fn cluster_name_stays(old: &BackupRepositorySpec, new: &BackupRepositorySpec) -> bool {
    new.layout != Layout::Shared || old.cluster_name == new.cluster_name
}

//! Which mover an object asks for, where it says so by having that mover's section.

use super::destination::ReplicationDestinationSpec;
use super::kopia::{DestinationKopia, SourceKopia};
use super::others::External;
use super::restic::{DestinationRestic, SourceRestic};
use super::source::ReplicationSourceSpec;

/// What an object asks for. Source: VolSync API §1.2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method<'a, Restic, Kopia> {
    /// Our restic mover.
    Restic(&'a Restic),
    /// Our Kopia mover.
    Kopia(&'a Kopia),
    /// A mover that is not ours: the section's name.
    Foreign(&'static str),
    /// Another controller: the object is left alone, its status too.
    External(&'a External),
    /// No section at all.
    Missing,
    /// Several sections: their names.
    Several(Sections),
}

/// Which sections an object has, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sections([Option<&'static str>; 7]);

impl Sections {
    /// The names, in the schema's order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().flatten().copied()
    }
}

impl ReplicationSourceSpec {
    /// Which mover this source asks for.
    pub fn method(&self) -> Method<'_, SourceRestic, SourceKopia> {
        let sections = Sections([
            self.restic.as_ref().map(|_| "restic"),
            self.kopia.as_ref().map(|_| "kopia"),
            self.rsync.as_ref().map(|_| "rsync"),
            self.rsync_tls.as_ref().map(|_| "rsyncTLS"),
            self.rclone.as_ref().map(|_| "rclone"),
            self.syncthing.as_ref().map(|_| "syncthing"),
            self.external.as_ref().map(|_| "external"),
        ]);
        choose(sections, self.restic.as_deref(), self.kopia.as_ref(), self.external.as_ref())
    }
}

impl ReplicationDestinationSpec {
    /// Which mover this destination asks for.
    pub fn method(&self) -> Method<'_, DestinationRestic, DestinationKopia> {
        let sections = Sections([
            self.restic.as_ref().map(|_| "restic"),
            self.kopia.as_ref().map(|_| "kopia"),
            self.rsync.as_ref().map(|_| "rsync"),
            self.rsync_tls.as_ref().map(|_| "rsyncTLS"),
            self.rclone.as_ref().map(|_| "rclone"),
            None,
            self.external.as_ref().map(|_| "external"),
        ]);
        choose(sections, self.restic.as_deref(), self.kopia.as_ref(), self.external.as_ref())
    }
}

fn choose<'a, Restic, Kopia>(
    sections: Sections,
    restic: Option<&'a Restic>,
    kopia: Option<&'a Kopia>,
    external: Option<&'a External>,
) -> Method<'a, Restic, Kopia> {
    let mut names = sections.names();
    let first = names.next();
    if names.next().is_some() {
        return Method::Several(sections);
    }
    match (restic, kopia, external, first) {
        (Some(restic), ..) => Method::Restic(restic),
        (_, Some(kopia), ..) => Method::Kopia(kopia),
        (_, _, Some(external), _) => Method::External(external),
        (_, _, _, Some(name)) => Method::Foreign(name),
        (None, None, None, None) => Method::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        let spec: ReplicationSourceSpec = serde_json::from_str(source).unwrap();
        let found = match spec.method() {
            Method::Restic(_) => "restic".to_owned(),
            Method::Kopia(_) => "kopia".to_owned(),
            Method::Foreign(name) => format!("foreign {name}"),
            Method::External(_) => "external".to_owned(),
            Method::Missing => "missing".to_owned(),
            Method::Several(sections) => sections.names().collect::<Vec<_>>().join(" and "),
        };
        assert_eq!(found, expected, "{source}");
    }

    #[test]
    fn one_section_says_which_mover() {
        check(r#"{"restic":{}}"#, "restic");
        check(r#"{"kopia":{}}"#, "kopia");
        check(r#"{"rsyncTLS":{}}"#, "foreign rsyncTLS");
        check(r#"{"external":{}}"#, "external");
        check("{}", "missing");
        check(r#"{"kopia":{},"restic":{}}"#, "restic and kopia");
        check(r#"{"kopia":{},"external":{}}"#, "kopia and external");
    }

    #[test]
    fn a_destination_is_asked_alike() {
        let spec: ReplicationDestinationSpec = serde_json::from_str(r#"{"kopia":{"previous":1}}"#).unwrap();
        assert!(matches!(spec.method(), Method::Kopia(kopia) if kopia.previous == Some(1)));
    }
}

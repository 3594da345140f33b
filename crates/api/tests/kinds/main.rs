//! The kinds as users and API servers meet them: documents, definitions, schemas.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

mod definitions;
mod documents;
mod readable;
mod schedules;
mod schema;
mod structural;
#[path = "../../examples/crds/yaml.rs"]
mod yaml;

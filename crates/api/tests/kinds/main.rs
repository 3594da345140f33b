//! The kinds as users and API servers meet them: documents, definitions, schemas.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

mod definitions;
mod documents;
#[path = "../../examples/deploy/files.rs"]
mod files;
mod readable;
#[path = "../../examples/deploy/roles.rs"]
mod roles;
mod schedules;
mod schema;
mod structural;
#[path = "../../examples/deploy/yaml.rs"]
mod yaml;

//! The kinds as users and API servers meet them: documents, definitions, schemas.

mod definitions;
mod documents;
mod readable;
mod schedules;
mod schema;
mod structural;

include!("yaml.rs");

//! Every generated file: its place below `deploy`, and what it says.

use serde_saphyr::SerializeError;

use crate::{roles, yaml};

/// All of them.
pub fn all() -> Result<Vec<(String, String)>, SerializeError> {
    let definitions = api::crds::all().into_iter();
    let definitions = definitions.map(|found| Ok((format!("crds/{}", found.file), yaml::text(&found.content)?)));
    definitions.chain(roles::all().map(|(file, text)| Ok((file.to_owned(), text)))).collect()
}

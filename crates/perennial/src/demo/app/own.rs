//! The user's own files: read, and never written.

use std::path::Path;

use super::{App, Edit};
use crate::demo::error::DemoError;

/// Whoever works with them.
pub struct Own;

impl App for Own {
    fn name(&self) -> &'static str {
        "yours"
    }

    fn fill(&mut self, _volume: &Path) -> Result<(), DemoError> {
        Ok(())
    }

    fn edit(&mut self, _volume: &Path) -> Result<Edit, DemoError> {
        Ok(Edit { what: "your own files are left as they are".to_owned(), changed_bytes: None })
    }
}

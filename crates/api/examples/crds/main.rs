//! Writes the definitions of all kinds, a YAML file each, into the directory that is named: `cargo xtask crds` calls it.
//!
//! An example, so that neither the library nor `xtask` is built with what only this needs.

mod yaml;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("error: name the directory to write the definitions into");
        return ExitCode::FAILURE;
    };
    for definition in api::crds::all() {
        if let Err(error) = write(&directory, &definition) {
            eprintln!("error: write {} into {}: {error}", definition.file, directory.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn write(directory: &Path, definition: &api::crds::Definition) -> Result<(), Box<dyn Error>> {
    Ok(fs::write(directory.join(&definition.file), yaml::text(&definition.content)?)?)
}

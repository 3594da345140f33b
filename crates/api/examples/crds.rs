//! Writes the definitions of all kinds, a YAML file each, into the directory that is named: `cargo xtask crds` calls it.
//!
//! An example, so that neither the library nor `xtask` is built with what only this needs.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("error: name the directory to write the definitions into");
        return ExitCode::FAILURE;
    };
    for definition in api::crds::all() {
        let file = directory.join(&definition.file);
        let written =
            yaml(&definition.content).and_then(|text| fs::write(&file, text).map_err(|error| error.to_string()));
        if let Err(error) = written {
            eprintln!("error: write {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

include!("../tests/kinds/yaml.rs");

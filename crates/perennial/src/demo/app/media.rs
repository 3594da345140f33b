//! A few big files that do not compress, as pictures and films are.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::{App, Edit, noise};
use crate::demo::error::{DemoError, io};
use crate::output;

const FILE_COUNT: u64 = 3;
const FILE_BYTES: u64 = 48 << 20;
const EDITED_BYTES: u64 = FILE_COUNT * FILE_BYTES / 100;
const BUFFER_BYTES: usize = 1 << 20;

/// The app that plays them.
#[derive(Default)]
pub struct Media {
    edition: u64,
}

impl App for Media {
    fn name(&self) -> &'static str {
        "media"
    }

    fn fill(&mut self, volume: &Path) -> Result<(), DemoError> {
        fs::create_dir(volume.join("films")).map_err(io("make a directory"))?;
        for number in 0..FILE_COUNT {
            let mut file = File::create(volume.join(format!("films/{number}.mkv"))).map_err(io("make a film"))?;
            write(&mut file, &format!("film {number}"), FILE_BYTES).map_err(io("make a film"))?;
        }
        Ok(())
    }

    fn edit(&mut self, volume: &Path) -> Result<Edit, DemoError> {
        let cut = OpenOptions::new().write(true).open(volume.join("films/1.mkv"));
        let mut file = cut.map_err(io("open a film"))?;
        file.seek(SeekFrom::Start(FILE_BYTES / 2)).map_err(io("cut a film"))?;
        write(&mut file, "another ending", EDITED_BYTES).map_err(io("cut a film"))?;
        fs::rename(volume.join("films/0.mkv"), volume.join("films/the first.mkv")).map_err(io("rename a film"))?;
        let what =
            format!("1 % of the bytes overwritten in one film, another of {} renamed", output::bytes(FILE_BYTES));
        Ok(Edit { what, changed_bytes: Some(EDITED_BYTES) })
    }

    fn replace(&mut self, volume: &Path) -> Result<(), DemoError> {
        self.edition += 1;
        for number in 0..FILE_COUNT {
            let path = volume.join(format!("new-{number}.mkv"));
            let mut file = File::create(path).map_err(io("record a film"))?;
            write(&mut file, &format!("film {number} of {}", self.edition), FILE_BYTES).map_err(io("record a film"))?;
        }
        Ok(())
    }
}

fn write(file: &mut File, seed: &str, length_bytes: u64) -> std::io::Result<()> {
    let (mut bytes, mut buffer, mut left) = (noise(seed), vec![0; BUFFER_BYTES], length_bytes);
    while left > 0 {
        let part = usize::try_from(left).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
        bytes.fill(&mut buffer[..part]);
        file.write_all(&buffer[..part])?;
        left -= part as u64;
    }
    Ok(())
}

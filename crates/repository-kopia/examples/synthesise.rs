//! Repositories that take too long to grow by hand, for measurements.
//!
//! `synthesise contents 10000000 DIRECTORY`: so many contents of eight bytes, in packs, and few index blobs.
//! `synthesise index-blobs 5000 DIRECTORY`: so many index blobs of one epoch, each over one content.
//!
//! The password is in `PERENNIAL_PASSWORD`.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use repository::{Clock as _, SystemClock};
use repository_kopia::{Client, CreateOptions, PREFIX_DATA, Packer, Password, Repository, Reservation, Session};
use repository_kopia::{FinishedPack, Sealer, WriteError};
use storage::{FilesystemStorage, Layout, ObjectKey, PutMode, Storage};
use testkit::MemoryStore;

type Anything = Box<dyn Error>;

#[tokio::main]
async fn main() -> Result<(), Anything> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, count, directory] = arguments.as_slice() else {
        return Err("usage: synthesise contents|index-blobs COUNT DIRECTORY".into());
    };
    let count: u64 = count.parse()?;
    let directory = Arc::new(FilesystemStorage::create(Path::new(directory), Layout::Kopia)?);
    match what.as_str() {
        "contents" => write(&create(directory).await?, count, false).await,
        "index-blobs" => {
            // Each publication lists all blobs before it; on a disk that takes longer than everything else.
            let memory = MemoryStore::new();
            memory.set_now(SystemClock.now());
            write(&create(Arc::new(memory.clone())).await?, count, true).await?;
            for (name, bytes) in memory.contents() {
                directory.put(&ObjectKey::new(name), bytes, PutMode::Replace).await?;
            }
            Ok(())
        }
        other => Err(format!("{other} is neither contents nor index-blobs").into()),
    }
}

async fn create(storage: Arc<dyn Storage>) -> Result<Repository, Anything> {
    let client = Client { username: "synthetic".to_owned(), hostname: "synthetic".to_owned() };
    let (password, options) = (Password::new(std::env::var("PERENNIAL_PASSWORD")?), CreateOptions::default());
    Ok(Repository::create(storage, &password, &options, client, Arc::new(SystemClock)).await?)
}

/// One session that writes so many numbers as contents, each with an index blob of its own or all together.
async fn write(repository: &Repository, count: u64, one_by_one: bool) -> Result<(), Anything> {
    let session = repository.begin().await?;
    let (packer, mut sealer) = (session.packer(), repository.sealer());
    let mut packs = Vec::new();
    for number in 0..count {
        push(&session, &packer, &mut sealer, &number.to_be_bytes(), &mut packs)?;
        if one_by_one {
            packs.extend(packer.finish()?);
        }
        for pack in packs.drain(..) {
            session.upload(pack).await?;
        }
        if one_by_one {
            session.flush().await?;
        }
    }
    for pack in packer.finish()? {
        session.upload(pack).await?;
    }
    Ok(session.finish().await?)
}

fn push(
    session: &Session<'_>,
    packer: &Packer<'_>,
    sealer: &mut Sealer<'_>,
    bytes: &[u8],
    packs: &mut Vec<FinishedPack>,
) -> Result<(), Anything> {
    let content = session.repository().content_id(PREFIX_DATA, bytes);
    if let Reservation::New { replaces, ticket } = session.reserve(&content)? {
        sealer.seal(content, &[bytes], None, &mut Vec::new(), |sealed, out| {
            packer.push(&sealed, out, replaces, Vec::new, &mut |pack| {
                packs.push(pack);
                Ok::<(), WriteError>(())
            })
        })??;
        ticket.end();
    }
    Ok(())
}

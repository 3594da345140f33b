//! Packs into the store: where threads meet the network.

use repository_kopia::{FinishedPack, Session};

use super::BackupError;
use crate::lane::{Receiver, Sender};
use crate::meter::Counter;
use crate::run::Run;

/// Index entries are published this often, in seconds, so that a run that is killed need not upload again what it had
/// uploaded before. Kopia does it as often.
const FLUSH_SECONDS: i64 = 600;

pub(super) fn run(
    packs: &Receiver<FinishedPack>,
    spent: &Sender<Vec<u8>>,
    session: &Session<'_>,
    run: &Run,
) -> Result<(), BackupError> {
    let clock = session.repository().clock();
    let mut flushed = clock.now();
    for pack in packs {
        if run.cancel.is_cancelled() {
            return Err(BackupError::Interrupted);
        }
        let buffer = upload(pack, session, run)?;
        // When nobody waits for memory it is given back to the system.
        let _ = spent.try_send(buffer);
        if clock.now().duration_since(flushed).as_secs() >= FLUSH_SECONDS {
            run.runtime.block_on(session.flush())?;
            flushed = clock.now();
        }
    }
    Ok(())
}

/// Puts one pack into the store and gives its memory back.
pub(super) fn upload(pack: FinishedPack, session: &Session<'_>, run: &Run) -> Result<Vec<u8>, BackupError> {
    let bytes = pack.size_bytes();
    let buffer = run.runtime.block_on(session.upload(pack))?;
    run.meter.add(Counter::BytesUploaded, bytes);
    Ok(buffer)
}

//! Lets the kubelet in: it names a unix socket's path as the `:authority` of its calls, which is no authority, and the
//! HTTP library below tonic ends such a call with a protocol error.
//!
//! Between socket and server each header block is looked through, and a literal value of `:authority` becomes
//! `localhost`. Nothing else is touched. The name is the first entry of HPACK's static table, so nothing needs to be
//! decompressed; both ends of the compression keep the same entries, only one of them is shorter here.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Bytes under way in each direction of a connection.
const BUFFER_BYTES: usize = 64 << 10;
/// Connections that wait to be taken.
const CONNECTIONS: usize = 16;

const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
/// Flags of a frame whose block is not the whole payload; the kubelet's library sends none of them.
const PADDED_OR_PRIORITY: u8 = 0x8 | 0x20;

/// `:authority` in the static table.
const AUTHORITY: usize = 1;
const REPLACEMENT: &[u8] = b"localhost";

/// The connections to a socket, as the server is to see them.
pub fn listen(path: &Path) -> Result<ReceiverStream<Result<DuplexStream>>> {
    let listener = UnixListener::bind(path)?;
    let (sender, receiver) = mpsc::channel(CONNECTIONS);
    tokio::spawn(async move {
        loop {
            let connection = listener.accept().await.map(|(stream, _)| {
                let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
                tokio::spawn(pass(stream, ours));
                theirs
            });
            if sender.send(connection).await.is_err() {
                return;
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// Carries bytes in both directions until one side has ended.
async fn pass(client: UnixStream, server: DuplexStream) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    // Either end is the end of the connection, and nobody is left to be told.
    tokio::select! {
        _ended = tokio::io::copy(&mut from_server, &mut to_client) => {}
        _ended = frames(&mut from_client, &mut to_server) => {}
    }
}

async fn frames(from: &mut (impl AsyncReadExt + Unpin), to: &mut (impl AsyncWriteExt + Unpin)) -> Result<()> {
    let mut preface = [0; PREFACE_BYTES];
    from.read_exact(&mut preface).await?;
    to.write_all(&preface).await?;
    loop {
        let mut head = [0; FRAME_HEAD_BYTES];
        from.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        from.read_exact(&mut payload).await?;
        if head[3] == HEADERS && head[4] & PADDED_OR_PRIORITY == 0 {
            payload = rewrite(&payload)?;
            let length = u32::try_from(payload.len()).map_err(|_too_long| ErrorKind::InvalidData)?.to_be_bytes();
            head[..3].copy_from_slice(&length[1..]);
        }
        to.write_all(&head).await?;
        to.write_all(&payload).await?;
        to.flush().await?;
    }
}

/// The block with another value of `:authority`, where it is spelled out.
fn rewrite(block: &[u8]) -> Result<Vec<u8>> {
    let mut rewritten = Vec::with_capacity(block.len());
    let mut rest = block;
    while let Some(&first) = rest.first() {
        let field = rest;
        let (name, literal) = match first {
            0x80.. => (integer(&mut rest, 7)?, false),
            0x40.. => (integer(&mut rest, 6)?, true),
            0x20.. => (integer(&mut rest, 5)?, false),
            _ => (integer(&mut rest, 4)?, true),
        };
        if literal && name == 0 {
            string(&mut rest)?;
        }
        let before_value = field.len() - rest.len();
        if literal {
            string(&mut rest)?;
        }
        if literal && name == AUTHORITY {
            rewritten.extend_from_slice(&field[..before_value]);
            rewritten.push(REPLACEMENT.len() as u8);
            rewritten.extend_from_slice(REPLACEMENT);
        } else {
            rewritten.extend_from_slice(&field[..field.len() - rest.len()]);
        }
    }
    Ok(rewritten)
}

/// An integer whose first byte has so many bits of it (RFC 7541, section 5.1).
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize> {
    let limit = (1_usize << bits) - 1;
    let mut value = usize::from(byte(rest)?) & limit;
    if value < limit {
        return Ok(value);
    }
    for shift in (0..28).step_by(7) {
        let next = byte(rest)?;
        value += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(cut_off())
}

/// Passes over a string, compressed or not.
fn string(rest: &mut &[u8]) -> Result<()> {
    let length = integer(rest, 7)?;
    *rest = rest.get(length..).ok_or_else(cut_off)?;
    Ok(())
}

fn byte(rest: &mut &[u8]) -> Result<u8> {
    let (&first, others) = rest.split_first().ok_or_else(cut_off)?;
    *rest = others;
    Ok(first)
}

fn cut_off() -> Error {
    Error::new(ErrorKind::InvalidData, "a header block is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_authority_changes() {
        // :method POST, :path literal, :authority literal, a name of its own.
        let block = [&[0x83, 0x44, 2, b'/', b'x', 0x41, 5][..], b"/sock", &[0x40, 1, b'a', 1, b'b', 0xbe]].concat();
        let wanted =
            [&[0x83, 0x44, 2, b'/', b'x', 0x41, 9][..], b"localhost", &[0x40, 1, b'a', 1, b'b', 0xbe]].concat();
        assert_eq!(rewrite(&block).unwrap(), wanted);
        assert!(rewrite(&[0x41, 5, b'/']).is_err());
        assert!(rewrite(&[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}

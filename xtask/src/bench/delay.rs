//! A proxy that hands each request on late, as if the store were far away.

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Large, since each copy costs a switch between threads and the machine is measured beside it.
const COPY_BYTES: usize = 1 << 20;

/// A proxy on loopback; it takes no more connections once this value is gone.
pub struct Delay {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Delay {
    /// Starts one in front of `target`.
    pub fn start(target: SocketAddr, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
        let address = listener.local_addr().context("ask for the port")?;
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                // What goes wrong with a connection is for its two ends to notice.
                let _ = client.and_then(|client| join(client, TcpStream::connect(target)?, delay));
            }
        });
        Ok(Self { address, ended })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // It looks at the mark when somebody calls.
        let _ = TcpStream::connect(self.address);
    }
}

/// Copies both ways. What comes from the client after an answer is the next request, and waits.
fn join(client: TcpStream, server: TcpStream, delay: Duration) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let answered = Arc::new(AtomicBool::new(true));
    let (from_client, to_server, was_answered) = (client.try_clone()?, server.try_clone()?, answered.clone());
    thread::spawn(move || {
        copy(from_client, to_server, || {
            if was_answered.swap(false, Ordering::Relaxed) {
                wait(delay);
            }
        });
    });
    thread::spawn(move || copy(server, client, || answered.store(true, Ordering::Relaxed)));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, before: impl Fn()) {
    let mut buffer = vec![0; COPY_BYTES];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        before();
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The other end may be gone already.
    let _ = to.shutdown(Shutdown::Write);
}

fn wait(delay: Duration) {
    let end = Instant::now() + delay;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_late_and_answers_are_not() -> Result<()> {
        let server = TcpListener::bind("127.0.0.1:0")?;
        let proxy = Delay::start(server.local_addr()?, Duration::from_millis(20))?;
        let echo = thread::spawn(move || -> std::io::Result<()> {
            let (mut client, _) = server.accept()?;
            let mut word = [0; 4];
            while client.read_exact(&mut word).is_ok() {
                client.write_all(&word)?;
            }
            Ok(())
        });
        let mut client = TcpStream::connect(proxy.address())?;
        let started = Instant::now();
        for word in [b"ping", b"pong"] {
            client.write_all(word)?;
            let mut answer = [0; 4];
            client.read_exact(&mut answer)?;
            assert_eq!(answer, *word);
        }
        assert!(started.elapsed() >= Duration::from_millis(40));
        drop(client);
        echo.join().expect("the echo does not panic")?;
        Ok(())
    }
}

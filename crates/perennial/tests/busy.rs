//! A bucket whose server is busy, loses replies, and tears others: each command ends as if nothing had been.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::{Bucket, Place, describe};

/// What a request meets.
#[derive(Clone, Copy)]
enum Luck {
    Good,
    SlowDown,
    TooManyRequests,
    ReplyLost,
    ReplyTorn,
}

impl Luck {
    /// Every seventh request is out of luck, whatever it is: 29 has no divisor in common with how many an operation makes.
    fn of(request: usize) -> Self {
        match request % 29 {
            2 => Self::SlowDown,
            9 => Self::TooManyRequests,
            16 => Self::ReplyLost,
            23 => Self::ReplyTorn,
            _ => Self::Good,
        }
    }
}

/// Listens in front of a server. It lives as long as the test's process.
struct Front {
    address: SocketAddr,
    unlucky_count: Arc<AtomicUsize>,
}

impl Front {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, unlucky_count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let unlucky = unlucky_count.clone();
        thread::spawn(move || {
            for (request, client) in listener.incoming().enumerate() {
                let unlucky = unlucky.clone();
                thread::spawn(move || {
                    let luck = Luck::of(request);
                    if !matches!(luck, Luck::Good) {
                        unlucky.fetch_add(1, Ordering::SeqCst);
                    }
                    // A client that is killed goes away in the middle of its request.
                    client.and_then(|client| one_request(&client, server, luck))
                });
            }
        });
        Self { address, unlucky_count }
    }
}

fn one_request(mut client: &TcpStream, server: SocketAddr, luck: Luck) -> std::io::Result<()> {
    let request = request_of(client)?;
    match luck {
        Luck::SlowDown => return refuse(client, "503 Slow Down", "SlowDown"),
        Luck::TooManyRequests => return refuse(client, "429 Too Many Requests", "TooManyRequests"),
        Luck::Good | Luck::ReplyLost | Luck::ReplyTorn => {}
    }
    let mut server = TcpStream::connect(server)?;
    server.write_all(&request)?;
    let mut reply = Vec::new();
    server.read_to_end(&mut reply)?;
    match luck {
        Luck::ReplyLost => Ok(()),
        Luck::ReplyTorn => client.write_all(&reply[..reply.len() / 2]),
        _ => client.write_all(&reply),
    }
}

/// One request, changed so that the server closes the connection after its answer.
fn request_of(client: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut client = BufReader::new(client);
    let (mut request, mut body_bytes) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if client.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            break;
        }
        if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            body_bytes = length.trim().parse().unwrap();
        }
        request.extend_from_slice(line.as_bytes());
    }
    request.extend_from_slice(b"connection: close\r\n\r\n");
    let mut body = vec![0; body_bytes];
    client.read_exact(&mut body)?;
    request.extend_from_slice(&body);
    Ok(request)
}

fn refuse(mut client: &TcpStream, status: &str, code: &str) -> std::io::Result<()> {
    let body = format!("<Error><Code>{code}</Code><Message>Please reduce your request rate.</Message></Error>");
    let length = body.len();
    let head = "Connection: close\r\nRetry-After: 1\r\nContent-Type: application/xml";
    client.write_all(format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())
}

#[test]
fn a_busy_server_that_loses_replies_costs_time_only() {
    let place = Place::new();
    let source = place.plant("source");
    let bucket = Bucket::start(&place);
    let front = Front::start(bucket.server.endpoint().trim_start_matches("http://").parse().unwrap());
    let run = |arguments: &[&str]| Bucket::run(&place, &format!("http://{}", front.address), arguments);
    run(&["repository", "create"]).expect(0);
    run(&["backup", "source"]).expect(0);
    let unchanged = run(&["backup", "source", "--json"]).expect(0).json();
    assert_eq!(unchanged["complete"], true, "{unchanged}");
    run(&["maintain", "--full"]).expect(0);
    run(&["restore", "latest", "out", "--cache-dir", "cold"]).expect(0);
    assert_eq!(describe(&place.path("out")), describe(&source));
    run(&["forget", "--keep-latest", "1"]).expect(0);
    run(&["verify", "--read-percent", "100"]).expect(0);
    assert!(front.unlucky_count.load(Ordering::SeqCst) > 4);
}

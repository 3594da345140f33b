//! What is particular to buckets, against the embedded server.

use bytes::Bytes;
use futures::TryStreamExt;
use storage::{ErrorKind, PutMode, S3Storage, Storage};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::support::{SECRET_ACCESS_KEY, Server, address, all, credentials, key, kinds};

const PACK: &str = "p0123456789abcdef0123456789abcdef-s0123456789abcdef0";

#[tokio::test]
async fn errors_are_sorted() {
    let mut server = Server::start().await;
    let store = server.store("backups", "");
    let not_found = Some(ErrorKind::NotFound);
    let taken = Some(ErrorKind::AlreadyExists);
    assert_eq!(kinds(&store, PACK).await, [not_found, not_found, not_found, None, None, None, taken]);
    store.delete(&key(PACK)).await.unwrap();

    let wrong_secret = server.store_with("backups", "", "another-secret");
    assert_eq!(kinds(&wrong_secret, PACK).await, all(ErrorKind::AccessDenied));
    let wrong_bucket = server.store("elsewhere", "");
    assert_eq!(kinds(&wrong_bucket, PACK).await, all(ErrorKind::StoreMissing));
    assert!(!server.root.path().join("elsewhere").exists());

    server.s3.stop().await;
    assert_eq!(kinds(&store, PACK).await, all(ErrorKind::Unreachable));
    server.s3.restart().await.unwrap();
    store.put(&key(PACK), Bytes::from_static(b"again"), PutMode::Replace).await.unwrap();
    assert_eq!(store.get(&key(PACK)).await.unwrap(), &b"again"[..]);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_and_tls_that_is_none_are_unreachable() {
    let open = |endpoint: &str| {
        S3Storage::open(&address(endpoint.to_owned(), "backups", ""), &credentials(SECRET_ACCESS_KEY)).unwrap()
    };
    let nowhere = open("http://perennial.invalid:9000");
    assert_eq!(nowhere.get(&key(PACK)).await.unwrap_err().kind, ErrorKind::Unreachable);
    let server = Server::start().await;
    let mut spoken_to_in_tls = address(server.s3.endpoint().replace("http:", "https:"), "backups", "");
    spoken_to_in_tls.certificate = storage::Certificate::Unverified;
    let store = S3Storage::open(&spoken_to_in_tls, &credentials(SECRET_ACCESS_KEY)).unwrap();
    assert_eq!(store.get(&key(PACK)).await.unwrap_err().kind, ErrorKind::Unreachable);
}

#[tokio::test]
async fn the_prefix_is_glued_on() {
    let server = Server::start().await;
    let store = server.store("backups", "media/photos-");
    store.put(&key("xe5"), Bytes::from_static(b"body"), PutMode::Replace).await.unwrap();
    assert!(server.root.path().join("backups/media/photos-xe5").is_file());
    assert_eq!(server.store("backups", "media/").get(&key("photos-xe5")).await.unwrap(), &b"body"[..]);
}

#[tokio::test]
async fn each_operation_is_one_request() {
    let server = Server::start().await;
    let store = server.store("backups", "media/");
    let name = key(PACK);
    let mut seen = server.s3.requests_count();
    let mut requests = || {
        let before = seen;
        seen = server.s3.requests_count();
        seen - before
    };
    store.put(&name, Bytes::from(vec![7; 6 * 1024 * 1024]), PutMode::Replace).await.unwrap();
    assert_eq!(requests(), 1, "a put");
    store.get(&name).await.unwrap();
    assert_eq!(requests(), 1, "a get");
    store.get_range(&name, 5, 5_000_000).await.unwrap();
    assert_eq!(requests(), 1, "a range");
    store.stat(&name).await.unwrap();
    assert_eq!(requests(), 1, "a stat");
    store.list("p").try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(requests(), 1, "a listing of one page");
    store.delete(&name).await.unwrap();
    assert_eq!(requests(), 1, "a delete");
    store.put(&name, Bytes::new(), PutMode::IfAbsent).await.unwrap();
    assert_eq!(requests(), 2, "a look and a put");
}

#[tokio::test]
async fn names_that_would_be_changed_on_their_way_are_refused() {
    let server = Server::start().await;
    let store = server.store("backups", "");
    for name in ["/x", "x/", "a//b", " x", "x "] {
        assert_eq!(store.get(&key(name)).await.unwrap_err().kind, ErrorKind::Misconfigured, "{name:?}");
    }
}

#[tokio::test]
async fn without_keys_nothing_is_opened() {
    let error =
        S3Storage::open(&address("http://127.0.0.1:1".to_owned(), "backups", ""), &credentials("")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
}

/// A server that gives the same kind of answer to every request, whatever an S3 server would say.
async fn canned(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let mut reader = BufReader::new(socket);
            let (mut head, mut body_bytes) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).await.unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    body_bytes = length.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut body = vec![0; body_bytes];
            reader.read_exact(&mut body).await.unwrap();
            reader.into_inner().write_all(answer(&head).as_bytes()).await.unwrap();
        }
    });
    endpoint
}

async fn canned_store(answer: impl Fn(&str) -> String + Send + 'static) -> S3Storage {
    S3Storage::open(&address(canned(answer).await, "backups", ""), &credentials(SECRET_ACCESS_KEY)).unwrap()
}

fn reply(status: &str, length_bytes: usize, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length_bytes}\r\n\r\n{body}")
}

#[tokio::test]
async fn a_login_page_is_no_empty_repository() {
    let page = "<html><body>Welcome</body></html>";
    let store = canned_store(move |_| reply("200 OK", page.len(), page)).await;
    let listed = store.list("").try_collect::<Vec<_>>().await;
    assert_eq!(listed.unwrap_err().kind, ErrorKind::Lies);
}

#[tokio::test]
async fn a_reply_that_ends_early_is_no_object() {
    let store = canned_store(|_| reply("200 OK", 10, "short")).await;
    assert_eq!(store.get(&key("xe5")).await.unwrap_err().kind, ErrorKind::Unreachable);
    assert_eq!(store.get_range(&key("xe5"), 0, 10).await.unwrap_err().kind, ErrorKind::Unreachable);
    assert_eq!(store.list("").try_collect::<Vec<_>>().await.unwrap_err().kind, ErrorKind::Unreachable);
}

#[tokio::test]
async fn a_whole_object_in_place_of_a_range_is_a_lie() {
    let store = canned_store(|_| reply("200 OK", 10, "0123456789")).await;
    let read = store.get_range(&key("xe5"), 2, 3).await.unwrap_err();
    assert_eq!(read.kind, ErrorKind::Lies, "{read}");
}

#[tokio::test]
async fn a_server_that_knows_no_conditions_gets_a_plain_put() {
    let store = canned_store(|head| {
        let list = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        match head.split(' ').next() {
            Some("HEAD") => reply("404 Not Found", 0, ""),
            Some("GET") => reply("200 OK", list.len(), list),
            _ if head.to_ascii_lowercase().contains("if-none-match") => reply("501 Not Implemented", 0, ""),
            _ => reply("200 OK", 0, ""),
        }
    })
    .await;
    store.put(&key("xe5"), Bytes::from_static(b"body"), PutMode::IfAbsent).await.unwrap();
}

#[tokio::test]
async fn what_a_server_repeats_of_a_key_is_not_shown() {
    let words = format!("<Error><Code>AccessDenied</Code><Message>{SECRET_ACCESS_KEY} is bad</Message></Error>");
    let store = canned_store(move |_| reply("403 Forbidden", words.len(), &words)).await;
    let error = store.get(&key("xe5")).await.unwrap_err();
    assert_eq!(error.detail, "S3 answered 403 AccessDenied: [redacted] is bad");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let store = S3Storage::open(&address(endpoint, "backups", ""), &credentials(SECRET_ACCESS_KEY)).unwrap();
    // The connections stand, and nobody ever reads from them. Paused time runs while everybody waits.
    assert_eq!(kinds(&store, PACK).await, all(ErrorKind::Unreachable));
    let error = store.get(&key(PACK)).await.unwrap_err();
    assert!(error.to_string().contains(PACK), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_stops_in_the_middle_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe first part").await.unwrap();
            open.push(socket);
        }
    });
    let store = S3Storage::open(&address(endpoint, "backups", ""), &credentials(SECRET_ACCESS_KEY)).unwrap();
    assert_eq!(store.get(&key(PACK)).await.unwrap_err().kind, ErrorKind::Unreachable);
    assert_eq!(store.list("").try_collect::<Vec<_>>().await.unwrap_err().kind, ErrorKind::Unreachable);
}

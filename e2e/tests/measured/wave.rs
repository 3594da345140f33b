//! 200 claims at once, half of which have a backup: decided by one catalog.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use e2e::s3::{ACCESS_KEY, SECRET_KEY};
use e2e::{CLAIM, PASSWORD, POD, Protected, Space, labelled, program, say};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CLAIMS: usize = 200;
const IN_FLIGHT: usize = 32;

/// What a catalog may have.
const MEMORY_MAX_MIB: u64 = 192;

/// Runs the product's command on the bucket.
fn perennial(protected: &Protected<'_>, prefix: &str, arguments: &[&str]) -> Result<()> {
    let output = program()?
        .args(arguments)
        .args(["--store", &protected.server.store(prefix)])
        .envs([("PERENNIAL_PASSWORD", PASSWORD), ("AWS_ACCESS_KEY_ID", ACCESS_KEY)])
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .output()
        .context("run perennial")?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The greatest memory of the catalog's process, as this machine sees it.
fn peak_of_catalog(pod: &Value) -> Result<u64> {
    let uid = pod["metadata"]["uid"].as_str().context("a pod has a UID")?;
    let in_systemd = uid.replace('-', "_");
    for entry in std::fs::read_dir("/proc").context("list /proc")? {
        let directory = entry.context("list /proc")?.path();
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
        let groups = read("cgroup");
        if read("cmdline").contains("catalog") && (groups.contains(uid) || groups.contains(&in_systemd)) {
            let status = read("status");
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
            return Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024);
        }
    }
    bail!("no process of pod {uid}")
}

/// The catalog's pod.
async fn catalog(protected: &Protected<'_>) -> Result<Value> {
    let system = Space { cluster: protected.space.cluster.clone(), name: "volsync-system".to_owned() };
    let pods = system.list(&POD).await?;
    let name = protected.space.name.as_str();
    let own = pods.into_iter().find(|pod| pod["metadata"]["labels"]["perennial.dev/repository"] == name);
    own.context("the catalog has a pod")
}

/// What a catalog counts.
async fn metrics(pod: &Value) -> Result<String> {
    let address = pod["status"]["podIP"].as_str().context("the catalog's address")?;
    let mut stream = TcpStream::connect((address, 8080)).await.context("connect to the catalog")?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// How repositories lie in the bucket, and how a claim's history is called there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layout {
    PerClaim,
    Shared,
}

const CREATE: [&str; 4] = ["repository", "create", "--format", "kopia"];

/// Backups of every other claim, by the command: histories that the cluster knows nothing of, as after a rebuild.
fn prepare(protected: &Protected<'_>, layout: Layout) -> Result<()> {
    let directory = tempfile::tempdir().context("make a directory")?;
    std::fs::write(directory.path().join("file"), "mine").context("write a file")?;
    let path = directory.path().to_str().context("a path of text")?;
    let name = &protected.space.name;
    if layout == Layout::Shared {
        perennial(protected, "", &CREATE)?;
    }
    for number in (0..CLAIMS).step_by(2) {
        let (prefix, identity) = match layout {
            Layout::PerClaim => (format!("{name}/data-{number}"), format!("data-{number}-backup@{name}:/data")),
            Layout::Shared => (String::new(), format!("data-{number}@{name}:/data")),
        };
        if layout == Layout::PerClaim {
            perennial(protected, &prefix, &CREATE)?;
        }
        perennial(protected, &prefix, &["backup", path, "--as", &identity])?;
    }
    Ok(())
}

/// Whether what was decided is what there is: every other claim has a backup.
fn is_decided(claim: &Value) -> bool {
    let number = claim["metadata"]["name"].as_str().and_then(|name| name.rsplit('-').next()?.parse::<usize>().ok());
    let wanted = if number.is_some_and(|number| number % 2 == 0) { "restore" } else { "fresh" };
    let text = claim["metadata"]["annotations"]["perennial.dev/decision"].as_str().unwrap_or("null");
    serde_json::from_str::<Value>(text).is_ok_and(|decision| decision["decision"] == wanted)
}

async fn wave(space: &Space, layout: Layout) -> Result<()> {
    // No ledger is beside what the command wrote.
    let repository = json!({"layout": format!("{layout:?}"), "declaredNew": "measured"});
    let protected = Protected::with(space, repository, json!({})).await?;
    let began = Instant::now();
    prepare(&protected, layout)?;
    say(&format!("{layout:?}: prepared in {:.0} s", began.elapsed().as_secs_f64()));
    // Of a class that waits for a pod: what is measured is deciding.
    let began = Instant::now();
    let claims = stream::iter(0..CLAIMS).map(async |number| {
        space.create_object(&CLAIM, labelled(&format!("data-{number}")).class("dirs-late").build()).await
    });
    let made: Vec<Value> = claims.buffer_unordered(IN_FLIGHT).try_collect().await?;
    let created = began.elapsed().as_secs_f64();
    // However long it takes in all: it goes on.
    for tenths in 1..=10 {
        let wanted = made.len() * tenths / 10;
        space
            .retry(&format!("{wanted} claims are decided"), async || {
                let claims = space.list(&CLAIM).await?;
                let count = claims.iter().filter(|claim| is_decided(claim)).count();
                ensure!(count >= wanted, "{count} of {}", made.len());
                Ok(())
            })
            .await?;
    }
    let decided = began.elapsed().as_secs_f64();
    let pod = catalog(&protected).await?;
    let peak = peak_of_catalog(&pod)?;
    let text = metrics(&pod).await?;
    let opens = text.lines().find(|line| line.starts_with("perennial_catalog_opens_total")).unwrap_or_default();
    say(&format!(
        "{layout:?}: {CLAIMS} claims created in {created:.1} s, decided after {decided:.1} s; catalog {peak} MiB; {opens}"
    ));
    ensure!(peak <= MEMORY_MAX_MIB, "the catalog had {peak} MiB");
    protected.remove().await
}

#[test]
fn a_wave_of_claims_with_a_repository_each() -> Result<()> {
    e2e::test("wave", async |space| wave(space, Layout::PerClaim).await)
}

#[test]
fn a_wave_of_claims_with_one_repository() -> Result<()> {
    e2e::test("wave", async |space| wave(space, Layout::Shared).await)
}

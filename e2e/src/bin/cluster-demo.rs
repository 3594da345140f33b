//! The product's story on a real cluster, told as it happens: `cargo xtask cluster demo`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{CLAIM, Cluster, NAMESPACE, Protected, Space};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let space = Space::create(&Cluster::connect().await?, "demo", &[]).await?;
    println!("\nNamespace {}, with a bucket of its own on this machine.", space.name);
    let told = tell(&space).await;
    // What the demo has made goes, however it went.
    let removed = space.delete().await;
    told.and(removed)
}

async fn tell(space: &Space) -> Result<()> {
    let mut protected = Protected::new(space).await?;
    let told = story(&mut protected).await;
    let removed = protected.remove().await;
    told.and(removed)?;
    println!("\nAll data came back, nothing was empty by mistake. The namespace, its bucket and its policy are gone.");
    Ok(())
}

async fn story(protected: &mut Protected<'_>) -> Result<()> {
    let space = protected.space;
    chapter("A claim with the label `backup: hourly`. There is no backup: it starts empty.");
    let began = Instant::now();
    protected.claim("photos").await?;
    space.bound("photos").await?;
    say(began, "it is bound");
    say_decision(protected, "fresh").await?;

    chapter("An app writes, and a backup is taken.");
    let write = "for i in $(seq 200); do echo picture $i >picture-$i; done; mkdir albums; echo holidays >albums/list";
    protected.write("photos", write).await?;
    let began = Instant::now();
    let source = protected.back_up("photos", "demo").await?;
    say(began, "it is backed up");
    println!("    {}", last_line(&source["status"]["latestMoverStatus"]["logs"]));

    chapter("The claim is deleted, and created again by the same manifest. Nobody does anything else.");
    protected.delete("photos").await?;
    let began = Instant::now();
    protected.claim("photos").await?;
    space.bound("photos").await?;
    say(began, "it is bound again");
    say_decision(protected, "restore").await?;
    let count = protected.write("photos", "ls | wc -l; cat albums/list picture-200").await?;
    ensure!(count == "201\nholidays\npicture 200\n", "what came back: {count}");
    println!("    201 entries, and what was in them");

    chapter("The storage goes away, and the claim is created again.");
    protected.delete("photos").await?;
    protected.server.stop()?;
    protected.claim("photos").await?;
    let decision = protected.held("photos", "RepositoryUnreachable").await?;
    println!("    it waits: {}", decision["reason"].as_str().unwrap_or_default());
    let phase = space.get(&CLAIM, "photos").await?;
    println!("    kubectl get pvc: {}", phase["status"]["phase"].as_str().unwrap_or_default());

    chapter("The storage is back.");
    let began = Instant::now();
    protected.server.start_again().await?;
    space.bound("photos").await?;
    say(began, "it is bound, by itself");
    ensure!(protected.read("photos", "picture-1").await? == "picture 1\n");
    println!("    with its data");

    chapter("Somebody empties the volume, and the backups go on.");
    protected.write("photos", "rm -rf ./*; echo done >setup").await?;
    protected.back_up_somehow("photos", "after").await?;
    println!("    the backup is stored and held back: it has less than a fifth of the files");
    protected.delete("photos").await?;
    protected.claim("photos").await?;
    space.bound("photos").await?;
    let count = protected.write("photos", "ls | wc -l").await?;
    ensure!(count == "201\n", "what came back: {count}");
    println!("    created again, it has its 201 entries");
    ensure!(!space.get(&NAMESPACE, &space.name).await?.is_null());
    Ok(())
}

fn chapter(text: &str) {
    println!("\n{text}");
}

fn say(began: Instant, what: &str) {
    let took: Duration = began.elapsed();
    println!("    {what} after {:.1} s", took.as_secs_f64());
}

async fn say_decision(protected: &Protected<'_>, wanted: &str) -> Result<()> {
    protected.decided("photos", wanted).await?;
    let claim = protected.space.get(&CLAIM, "photos").await?;
    let text = &claim["metadata"]["annotations"]["perennial.dev/decision"];
    println!("    perennial.dev/decision: {}", text.as_str().unwrap_or_default());
    Ok(())
}

fn last_line(logs: &Value) -> String {
    logs.as_str().unwrap_or_default().lines().last().unwrap_or_default().to_owned()
}

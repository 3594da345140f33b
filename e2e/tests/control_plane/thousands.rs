//! Thousands of claims, and three ways in which a client gets to know them and what becomes of them.

use anyhow::{Context, Result, bail, ensure};
use e2e::{CLAIM, Claim, Space, say};
use futures::{StreamExt, TryStreamExt, stream};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;
use std::collections::BTreeMap;
use std::pin::pin;
use tokio::time::Instant;

const NAMESPACES: usize = 50;
/// In each namespace. Not a whole number of pages in all: the last one is found to be the last whatever else there is.
const CLAIMS: usize = 99;
/// What the client asks for unless it is told otherwise.
const PAGE: usize = 500;
/// Requests under way at a time.
const IN_FLIGHT: usize = 32;

const LABEL: &str = "example.test/space";

/// The namespaces, with all claims in them, each of which has a label of this test's.
async fn fill(space: &Space) -> Result<Vec<Space>> {
    let namespaces = stream::iter(0..NAMESPACES).map(|_| Space::bare(&space.cluster, "thousands", &[]));
    let namespaces: Vec<Space> = namespaces.buffer_unordered(IN_FLIGHT).try_collect().await?;
    let each = namespaces.iter().flat_map(|within| (0..CLAIMS).map(move |number| (within, number)));
    let claims = stream::iter(each).map(async |(within, number)| {
        let claim = Claim::new(&format!("data-{number}")).label(LABEL, &space.name);
        within.create_object(&CLAIM, claim.build()).await
    });
    let made: Vec<_> = claims.buffer_unordered(IN_FLIGHT).try_collect().await?;
    ensure!(made.len() == NAMESPACES * CLAIMS);
    Ok(namespaces)
}

/// Watches the claims as a program of that name, until one that is changed has been told of; the calls it made for that.
async fn watch(space: &Space, changed: &Space, agent: &str, how: watcher::Config) -> Result<BTreeMap<String, usize>> {
    let agent = format!("{}-{agent}", space.name);
    let started = Instant::now();
    let cluster = space.cluster.agent(&agent)?;
    let mark = cluster.mark().await?;
    let mut events = pin!(watcher(cluster.all(&CLAIM), how.labels(&format!("{LABEL}={}", space.name))));
    let mut found = 0;
    loop {
        match events.try_next().await?.context("the watch ended")? {
            Event::Init => {}
            Event::InitApply(_) => found += 1,
            Event::InitDone => break,
            other => bail!("an event before the list is complete: {other:?}"),
        }
    }
    let listed = started.elapsed();
    ensure!(found == NAMESPACES * CLAIMS, "{found} claims");
    // A value that the claim does not have yet, or it would not change.
    changed.patch(&CLAIM, "data-7", json!({"metadata": {"annotations": {"example.test/by": agent}}})).await?;
    match events.try_next().await?.context("the watch ended")? {
        Event::Apply(claim) => {
            ensure!(
                claim.metadata.name.as_deref() == Some("data-7")
                    && claim.metadata.namespace == Some(changed.name.clone())
            );
        }
        other => bail!("one claim was changed, and the watch says {other:?}"),
    }
    say(&format!("{found} claims known to {agent} after {} ms", listed.as_millis()));
    Ok(cluster.calls(mark).await?.of_agent(&agent).tally())
}

#[test]
fn thousands_of_claims_are_listed_in_pages_once_and_watched_from_there() -> Result<()> {
    e2e::test_on_control_plane("thousands", async |space| {
        let started = Instant::now();
        let namespaces = fill(space).await?;
        say(&format!("{} claims made in {} ms", NAMESPACES * CLAIMS, started.elapsed().as_millis()));
        let changed = namespaces.last().context("there is a namespace")?;
        let (list, watched) = ("list persistentvolumeclaims".to_owned(), "watch persistentvolumeclaims".to_owned());

        let pages = (NAMESPACES * CLAIMS).div_ceil(PAGE);
        let calls = watch(space, changed, "pages", watcher::Config::default()).await?;
        ensure!(calls == [(list.clone(), pages), (watched.clone(), 1)].into(), "{calls:#?}");
        let whole = watcher::Config { page_size: None, ..Default::default() };
        let calls = watch(space, changed, "whole", whole).await?;
        ensure!(calls == [(list, 1), (watched.clone(), 1)].into(), "{calls:#?}");
        // A watch that begins with what there is.
        let calls = watch(space, changed, "stream", watcher::Config::default().streaming_lists()).await?;
        ensure!(calls == [(watched, 1)].into(), "{calls:#?}");
        Ok(())
    })
}

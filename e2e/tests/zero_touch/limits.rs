//! How many movers run at a time.

use anyhow::Result;
use e2e::Protected;
use serde_json::json;

#[test]
fn a_slot_is_free_again_when_its_mover_has_gone() -> Result<()> {
    e2e::test("limits", async |space| {
        let one = json!({"limits": {"movers": 1, "perClass": 1, "perNode": 1}});
        let protected = Protected::with(space, one, json!({})).await?;
        for name in ["first", "second", "third"] {
            protected.claim(name).await?;
            space.bound(name).await?;
            protected.idle(name).await?;
        }
        protected.remove().await
    })
}

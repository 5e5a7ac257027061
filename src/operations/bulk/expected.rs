//! Whether the objects are still what a preview found. All of them are read before the first write,
//! and if one has changed, nothing is written.

#![deny(clippy::disallowed_types)]

use super::{selected::Selected, survey::Reach};
use crate::{
    api::{item::ItemId, reason::bulk as reason},
    items::{bulk::State, plan::first_of},
    worker::failure::Failure,
};
use futures::{StreamExt, TryStreamExt, stream};

/// Stands for what could not be read. A preview writes no such object.
pub const UNREAD: u64 = 0;

/// Fails if an object is not what the preview found.
pub async fn expect(
    reach: &Reach<'_>,
    selected: &Selected,
    expected: &[State],
    parallelism: usize,
) -> Result<(), Failure> {
    let looked = stream::iter(selected.names.iter().zip(expected))
        .map(|(name, state)| async move {
            let seen = reach.look(name).await?.seen.unwrap_or(UNREAD);
            Ok::<_, Failure>((seen != state.seen).then(|| reach.item(name)))
        })
        // In the order of the names, so that each attempt says the same.
        .buffered(parallelism);
    let moved: Vec<ItemId> = looked.try_filter_map(|moved| std::future::ready(Ok(moved))).try_collect().await?;
    if moved.is_empty() {
        return Ok(());
    }
    Err(Failure::blocked(
        reason::PREVIEW_STALE,
        format!(
            "make another preview: nothing was written, because not everything is as the preview showed it: {}",
            first_of(&moved)
        ),
    ))
}

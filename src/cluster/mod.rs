//! What the cluster holds, as far as we need it: slim objects, and a view of them that watches keep current.
//!
//! Never: a decision, or a write.

pub mod slim;
mod view;

pub(crate) use view::{Kinds, Place, View};

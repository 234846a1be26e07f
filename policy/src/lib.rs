//! What Poolguard decides, and nothing else: no I/O, no clock, no environment. `now` is handed in.
//!
//! In reading order: [`selector`] and [`pooling`] are the words, [`evidence`] draws the conclusion from what the sources
//! say, [`doors`] is the one table of requests that could cut a service off.

pub mod evidence;
pub mod pooling;
pub mod selector;

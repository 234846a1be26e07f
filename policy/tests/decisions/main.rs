//! Laws of the whole decision, over generated clusters and requests through every door: what may never happen, whatever is asked.

mod asked;
mod dice;
mod driver;
mod examples;
mod golden;
mod laws;
mod oracle;
mod telling;
mod world;

//! What Poolguard decides, and nothing else: no I/O, no clock, no environment. `now` is handed in.
//!
//! In reading order: [`selector`], [`held`], [`selecting`], [`pooling`], [`overriding`] and [`state`] are the words; [`evidence`] draws the conclusion
//! from what the sources say, [`record`] is what a conftool record says as a whole, [`sighting`] what must be remembered of a
//! name in DNS; [`doors`] is the one table of requests that could cut
//! a service off, and [`request`] one that came through; [`guarded`] finds the services that it concerns, [`weakening`] which
//! changes of a `ServicePooling` open the guard; [`rules`] is the chain that decides, on what is [`given`]; [`verdict`] its
//! outcomes, [`steps`] what to do next, [`words`] how it is told. [`drift`] feeds status alone.

pub mod doors;
pub mod drift;
pub mod evidence;
pub mod given;
pub mod guarded;
pub mod held;
pub mod overriding;
pub mod pooling;
pub mod record;
pub mod request;
pub mod rules;
pub mod selecting;
pub mod selector;
pub mod sighting;
pub mod state;
pub mod steps;
pub mod verdict;
pub mod weakening;
pub mod words;

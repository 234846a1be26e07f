//! What breaks while the guard is up: replicas, the API server, the leader, clocks, and the ways between them. In each row traffic goes
//! on all the time: no removal is ever permitted that should not be, ordinary work goes through, and the time until all is well
//! again is printed.

mod address;
mod apiserver;
mod clock;
mod gate;
mod leader;
mod limits;
mod replicas;
mod traffic;
mod upgrade;

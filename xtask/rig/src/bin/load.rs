//! Sends reviews over connections that are kept, at an even rate or as fast as they are answered. Reads a plan from standard
//! input, and writes what it saw to standard output.
//!
//! One thread: it is bound to a processor of its own. A review that waits for a connection waits since it was due.

#[path = "../load/answer.rs"]
mod answer;
#[path = "../load/clock.rs"]
mod clock;
#[path = "../load/connection.rs"]
mod connection;
#[path = "../load/pace.rs"]
mod pace;
#[path = "../load/seen.rs"]
mod seen;

use std::cell::RefCell;
use std::io::Read;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use poolguard_rig::process::Cpu;
use poolguard_rig::{Asked, Plan};
use tokio::task::LocalSet;

use answer::Judge;
use clock::Clock;
use connection::{Connection, Server};
use pace::Pace;
use seen::Seen;

fn main() -> Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read the plan")?;
    let plan: Plan = serde_json::from_str(&text).context("no plan")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = LocalSet::new().block_on(&runtime, run(plan))?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

async fn run(plan: Plan) -> Result<poolguard_rig::Outcome> {
    let (requests, judge): (Rc<[Vec<u8>]>, Judge) = match &plan.asked {
        Asked::Reviews { path, file } => {
            let reviews = std::fs::read_to_string(file).context("cannot read the reviews")?;
            (reviews.lines().map(|review| connection::request(path, review)).collect(), answer::of_review)
        }
        Asked::DryRuns { paths, token } => {
            (paths.iter().map(|path| connection::dry_run(path, token)).collect(), answer::of_dry_run)
        }
    };
    ensure!(!requests.is_empty(), "there is nothing to ask");
    let server = Rc::new(Server::new(plan.address, &plan.authority)?);
    let mut connections = Vec::new();
    for _ in 0..plan.connections {
        connections.push(server.connect().await?);
    }
    let start = Instant::now();
    let begin = start + Duration::from_secs_f64(plan.warmup);
    let end = begin + Duration::from_secs_f64(plan.seconds);
    let pace = Rc::new(Pace::new(plan.rate.is_none().then_some(end)));
    let seen = Rc::new(RefCell::new(Seen::new(plan.expected, begin, end)?));
    let workers: Vec<_> = connections
        .into_iter()
        .map(|connection| {
            let (server, requests) = (Rc::clone(&server), Rc::clone(&requests));
            let (pace, seen) = (Rc::clone(&pace), Rc::clone(&seen));
            tokio::task::spawn_local(work(connection, server, (requests, judge), pace, seen))
        })
        .collect();
    let pacing = plan.rate.map(|rate| {
        let pace = Rc::clone(&pace);
        tokio::task::spawn_local(async move { pace.keep(rate, start, end).await })
    });
    let clock = Clock::new()?;
    let own = [std::process::id()];
    clock.until(begin).await?;
    let (server_before, own_before, measured) = (Cpu::of(&plan.pids)?, Cpu::of(&own)?, Instant::now());
    clock.until(end).await?;
    let server_cpu = Cpu::of(&plan.pids)?.since(&server_before).as_secs_f64();
    let generator_cpu = Cpu::of(&own)?.since(&own_before).as_secs_f64();
    let seconds = measured.elapsed().as_secs_f64();
    if let Some(pacing) = pacing {
        pacing.await.context("the pace was lost")??;
    }
    pace.end();
    // Whoever has not answered by then is late by at least as much as has passed.
    let _ = tokio::time::timeout(Duration::from_secs_f64(plan.patience), async {
        for worker in workers {
            let _ = worker.await;
        }
    })
    .await;
    let outcome = seen.borrow_mut().outcome(pace.left());
    Ok(poolguard_rig::Outcome { seconds, server_cpu, generator_cpu, ..outcome })
}

/// One connection: a review after the other. One that breaks is opened anew, and its review counts as lost.
async fn work(
    mut connection: Connection,
    server: Rc<Server>,
    (requests, judge): (Rc<[Vec<u8>]>, Judge),
    pace: Rc<Pace>,
    seen: Rc<RefCell<Seen>>,
) {
    while let Some((index, due)) = pace.next().await {
        seen.borrow_mut().sent(due);
        match connection.ask(&requests[index % requests.len()], judge).await {
            Ok(answer) => seen.borrow_mut().answered(due, answer),
            Err(error) => {
                seen.borrow_mut().complain(format!("{error:#}"));
                match server.connect().await {
                    Ok(anew) => connection = anew,
                    Err(error) => return seen.borrow_mut().complain(format!("{error:#}")),
                }
            }
        }
    }
}

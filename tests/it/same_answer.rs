//! Whatever can be asked on two faces gets the same answer: scenarios, each played once through
//! gRPC and once through HTTP, on two fresh nodes, and compared step by step.
//!
//! Indexes differ from run to run, so a transcript numbers them in the order of their first
//! appearance: it tells what changed and what did not, not when.

mod grpc;
mod http;
mod scenarios;

use grpc::Grpc;
use harness::Node;
use http::Http;
use scenarios::SCENARIOS;
use scenarios::Step::{self, *};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A face, driven by steps.
trait Face {
    /// Plays a step and tells what came of it.
    fn play(&mut self, step: Step) -> Value;
}

/// The state of a key as it was last read.
#[derive(Default)]
struct Seen(std::collections::HashMap<String, u64>);

impl Seen {
    fn index(&self, key: &str, more: i64) -> u64 {
        self.0.get(key).copied().unwrap_or(1).checked_add_signed(more).unwrap()
    }
}

/// Replaces each index by the number of those that appeared before it.
fn renumber(value: &mut Value, known: &mut Vec<u64>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| renumber(item, known)),
        Value::Object(fields) => {
            for name in ["created", "modified"] {
                if let Some(index) = fields.get(name).and_then(Value::as_u64) {
                    fields[name] = number(index, known).into();
                }
            }
        }
        _ => {}
    }
}

fn number(index: u64, known: &mut Vec<u64>) -> usize {
    known.iter().position(|seen| *seen == index).unwrap_or_else(|| {
        known.push(index);
        known.len() - 1
    })
}

fn transcript(face: &mut dyn Face, steps: &[Step]) -> Vec<Value> {
    let mut known = Vec::new();
    let told = |step: &Step| {
        let mut answer = face.play(*step);
        if matches!(step, Nodes) {
            // Rows of nodes carry their index last; only their order of appearance is compared.
            answer.as_array_mut().unwrap().iter_mut().for_each(|row| row[2] = number(row[2].as_u64().unwrap(), &mut known).into());
        }
        renumber(&mut answer, &mut known);
        answer
    };
    steps.iter().map(told).collect()
}

#[test]
fn both_faces_give_the_same_answers() {
    let mut differences = Vec::new();
    for (name, steps) in SCENARIOS {
        let fresh = || harness::Setup::dev().flag("-node=here").start();
        let (one, other) = (fresh(), fresh());
        let runtime = Runtime::new().unwrap();
        let client = runtime.block_on(one.client());
        let grpc = transcript(&mut Grpc { runtime, client, seen: Seen::default() }, steps);
        let http = transcript(&mut Http { node: other.http(), seen: Seen::default() }, steps);
        for ((step, grpc), http) in steps.iter().zip(&grpc).zip(&http) {
            if grpc != http {
                differences.push(format!("{name}, {step:?}:\n  gRPC {grpc}\n  HTTP {http}"));
            }
        }
        assert!(grpc.iter().any(|answer| *answer != json!({"refused": true})), "{name}: everything is refused");
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn what_one_face_writes_the_other_reads_with_the_same_indexes() {
    let node = Node::dev();
    let runtime = Runtime::new().unwrap();
    let mut grpc = Grpc { client: runtime.block_on(node.client()), runtime, seen: Seen::default() };
    let mut http = Http { node: node.http(), seen: Seen::default() };
    for (n, step) in SCENARIOS.iter().flat_map(|(_, steps)| *steps).enumerate() {
        if n % 2 == 0 {
            grpc.play(*step)
        } else {
            http.play(*step)
        };
        for read in [List(""), Keys("", "/"), Instances("web"), Passing("web"), Services, Nodes, Checks("web")] {
            assert_eq!(grpc.play(read), http.play(read), "{read:?} after {step:?}");
        }
    }
}

//! A small web server to be probed by checks.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::thread;

/// Answers every request with a status that can be changed. It listens until the process ends.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
}

impl Web {
    /// Listens on `address`, which may have port 0.
    pub fn start(address: &str, status: u16) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
        let web =
            Web { address: listener.local_addr().unwrap(), status: Arc::new(AtomicU16::new(status)), asked: Arc::new(AtomicUsize::new(0)) };
        let (status, asked) = (web.status.clone(), web.asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (status, asked) = (status.clone(), asked.clone());
                thread::spawn(move || answer(stream, &status, &asked));
            }
        });
        web
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers with this status from now on.
    pub fn set_status(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// How many requests there were.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answer(stream: std::net::TcpStream, status: &AtomicU16, asked: &AtomicUsize) {
    let mut reader = BufReader::new(&stream);
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(read) if read > 0 => {}
            _ => return,
        }
        if line.trim().is_empty() {
            break;
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let status = status.load(Ordering::SeqCst);
    let text = format!("HTTP/1.1 {status} Test\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
    // The other side may be gone: a check that timed out.
    let _ = (&stream).write_all(text.as_bytes());
}

//! A TCP proxy on the loopback address that can cut its connections and delay what they carry.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

/// A proxy that forwards connections to one port until the process ends.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
    /// Milliseconds.
    delay: Arc<AtomicU64>,
}

impl Proxy {
    /// Listens on a free port and forwards to `target`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn to(target: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen for the proxy")?;
        let port = listener.local_addr().context("read the proxy's port")?.port();
        let open = Arc::new(Mutex::new(Vec::new()));
        let delay = Arc::new(AtomicU64::new(0));
        let (connections, pause) = (Arc::clone(&open), Arc::clone(&delay));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // While the target is down, the proxy closes connections as the target would.
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let pause = Arc::clone(&pause);
                    std::thread::spawn(move || forward(from, to, &pause));
                }
                lock(&connections).extend([client, server]);
            }
        });
        Ok(Self { port, open, delay })
    }

    /// Port to connect to.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Delays whatever arrives from now on, in both directions.
    pub fn delay(&self, time: Duration) {
        self.delay.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Closes every open connection, at whatever point it is.
    pub fn cut(&self) {
        for stream in lock(&self.open).drain(..) {
            // Fails for a connection that has ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn lock(streams: &Mutex<Vec<TcpStream>>) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
    streams.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forward(mut from: TcpStream, mut to: TcpStream, pause: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        std::thread::sleep(Duration::from_millis(pause.load(Ordering::Relaxed)));
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // The other direction may have closed both.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

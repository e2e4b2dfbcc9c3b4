//! Free ports of the loopback address.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

/// Returns different ports that are free now. A server binds them a moment later, and does not
/// start if another process was faster.
///
/// # Errors
/// When no port is free.
pub fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let mut ports = [0; COUNT];
    let mut listeners = Vec::with_capacity(COUNT);
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a free port")?;
        *port = listener.local_addr().context("read the address of a free port")?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

//! Connections to Redis: to one server, or to every node of a cluster. Owns how a pipeline is sent
//! to a cluster, whose nodes each take the commands of their own slots alone.

use std::collections::HashMap;

use futures_util::future::join_all;
use redis::aio::{ConnectionLike, ConnectionManager};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{
    Arg, Cmd, FromRedisValue, Pipeline, RedisError, RedisFuture, RedisResult, ServerError, ServerErrorKind, Value,
    from_redis_value,
};

/// Name of the only server in the place of a node's address.
const ONLY: &str = "";

/// Connections to one server, or to the nodes of a cluster. Clones share them.
#[derive(Clone)]
pub(crate) enum Link {
    Server(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Link {
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Returns what the servers that take writes say about themselves, by their addresses; the
    /// address of a server that is no node is empty.
    pub(super) async fn information(&mut self) -> RedisResult<Vec<(String, HashMap<String, String>)>> {
        let command = redis::cmd("INFO");
        let answers: Vec<(String, String)> = match self {
            Self::Server(_) => vec![(ONLY.to_owned(), command.query_async(self).await?)],
            Self::Cluster(_) => {
                let answers: HashMap<String, String> = command.query_async(self).await?;
                answers.into_iter().collect()
            }
        };
        let mut nodes: Vec<_> = answers.into_iter().map(|(address, text)| (address, fields(&text))).collect();
        nodes.sort_by(|(left, _), (right, _)| left.cmp(right));
        Ok(nodes)
    }

    /// Sends a command to the node of an address that [`Self::information`] returned.
    ///
    /// # Errors
    /// Errors of the server, and one for a node that the cluster does not have any more.
    pub(crate) async fn ask<T: FromRedisValue>(&mut self, address: &str, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Server(_) => command.query_async(self).await,
            Self::Cluster(cluster) => {
                let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
                let node = SingleNodeRoutingInfo::ByAddress {
                    host: host.trim_matches(['[', ']']).to_owned(),
                    port: port.parse().unwrap_or_default(),
                };
                let reply = cluster.route_command(command.clone(), RoutingInfo::SingleNode(node)).await?;
                Ok(from_redis_value(reply.extract_error()?)?)
            }
        }
    }

    /// Sends commands of one slot by one connection, one behind the other. Returns the replies.
    pub(crate) async fn in_turn(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<RedisResult<Value>>> {
        match self {
            Self::Server(_) => pipeline.query_async(self).await,
            Self::Cluster(cluster) => pipeline.query_async(cluster).await,
        }
    }
}

fn fields(text: &str) -> HashMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(server) => server.req_packed_command(command),
            Self::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    /// In a cluster, the commands are sent at the same time, in no order, and each is redirected by
    /// itself.
    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(server) => server.req_packed_commands(pipeline, offset, count),
            Self::Cluster(cluster) => Box::pin(spread(cluster, pipeline)),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(server) => server.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}

/// Sends each command of a pipeline to its node. A script that the pipeline loads is not sent to
/// every node, of which some may be down: a node that does not know it gets it with the call.
async fn spread(cluster: &ClusterConnection, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
    let mut source = None;
    let mut sent = Vec::new();
    for command in pipeline.cmd_iter() {
        let loaded = loaded_script(command);
        let is_call = loaded.is_none();
        source = loaded.or(source);
        let (script, mut cluster) = (source.clone(), cluster.clone());
        sent.push(async move {
            if !is_call {
                return Ok(Value::Okay);
            }
            let reply = reply_of(cluster.req_packed_command(command).await)?;
            match (&reply, script) {
                (Value::ServerError(error), Some(script)) if error.kind() == Some(ServerErrorKind::NoScript) => {
                    reply_of(cluster.req_packed_command(&with_source(command, &script)).await)
                }
                _ => Ok(reply),
            }
        });
    }
    join_all(sent).await.into_iter().collect()
}

/// An error that a server replied with is a value, as in a pipeline.
fn reply_of(outcome: RedisResult<Value>) -> RedisResult<Value> {
    outcome.or_else(|error: RedisError| ServerError::try_from(error).map(Value::ServerError))
}

/// Returns the source of the script that a command loads.
fn loaded_script(command: &Cmd) -> Option<Vec<u8>> {
    let mut arguments = command.args_iter();
    match (arguments.next()?, arguments.next()?, arguments.next()?) {
        (Arg::Simple(b"SCRIPT"), Arg::Simple(b"LOAD"), Arg::Simple(source)) => Some(source.to_vec()),
        _ => None,
    }
}

/// Returns a call by the source of the script, of one by its digest.
fn with_source(command: &Cmd, source: &[u8]) -> Cmd {
    let mut call = redis::cmd("EVAL");
    call.arg(source);
    for argument in command.args_iter().skip(2) {
        if let Arg::Simple(argument) = argument {
            call.arg(argument);
        }
    }
    call
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_a_pipeline_loads_is_sent_with_a_call() {
        let load = redis::cmd("SCRIPT").arg("LOAD").arg("return 1").to_owned();
        assert_eq!(loaded_script(&load).as_deref(), Some(&b"return 1"[..]));
        let call = redis::cmd("EVALSHA").arg("digest").arg(1).arg("key").arg("value").to_owned();
        assert_eq!(loaded_script(&call), None);
        let sent = with_source(&call, b"return 1").get_packed_command();
        assert_eq!(sent, redis::cmd("EVAL").arg("return 1").arg(1).arg("key").arg("value").get_packed_command());
    }
}

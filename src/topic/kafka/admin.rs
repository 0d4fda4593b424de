//! Topics and groups of a cluster: asked, made, deleted.
//!
//! Reads and writes no records. The subtle thing: a change is answered by one broker before all know it, so making and deleting wait until
//! the cluster's description shows it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::failure::Failure;
use super::membership;
use super::native::{self, Consumer};
use super::reach::{self, Listener};
use super::{KafkaOptions, Logged};
use crate::topic::{
    Bounds, Cleanup, Holder, Offset, Owner, Position, TopicError, TopicPartition, TopicSpec, check_spec,
};
use crate::types::TopicName;

/// How long a question may take.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
/// How long one broker may take for an answer before the client looks for it anew.
const ASK: Duration = Duration::from_secs(5);
/// How long a change may take to be known.
const SETTLE: Duration = Duration::from_secs(15);
/// How long brokers may go on to know nothing of a topic that one of them has shown.
const SPREAD: Duration = Duration::from_secs(3);
/// Marks the part of a batch that is consumed, and the node that says so, in an offset's metadata.
const CONSUMED: &str = "riverrun:1:";
/// How long a transaction over an offset is waited for before its writer is asked for: commits of the living take less.
pub(super) const UNSTABLE: Duration = Duration::from_millis(250);

/// A cluster's administration, in one namespace.
pub(super) struct Admin {
    client: AdminClient<Logged>,
    /// read_committed, so that ends are those of committed records
    reader: BaseConsumer<Listener>,
    /// asks for offsets of groups; made when it is needed, and anew when another broker has the answer
    asker: Mutex<Option<Arc<Consumer>>>,
    asker_config: ClientConfig,
    namespace: String,
    /// a member that does not say good-bye is given up after it
    session: Duration,
    /// partitions of topics that were asked for before
    known: Mutex<HashMap<TopicName, i32>>,
    /// topics that were made a moment ago
    made: Mutex<HashMap<TopicName, Instant>>,
}

impl Admin {
    pub fn open(options: &KafkaOptions) -> Result<Self, TopicError> {
        let reader = reach::reach(options)?;
        let cannot = |e: rdkafka::error::KafkaError| Failure::from(e).of("reach Kafka");
        let mut config = options.admin();
        config.set("isolation.level", "read_uncommitted");
        let client: AdminClient<Logged> = config.create_with_context(Logged).map_err(cannot)?;
        Ok(Self {
            client,
            reader,
            asker: Mutex::default(),
            asker_config: options.consumer(&format!("{}riverrun-reader", options.namespace), 1 << 20),
            namespace: options.namespace.clone(),
            session: options.session(),
            known: Mutex::default(),
            made: Mutex::default(),
        })
    }

    /// The name that Kafka has for a topic or group of ours.
    pub fn outer(&self, name: &str) -> String {
        format!("{}{name}", self.namespace)
    }

    /// Our name of a topic or group of this namespace.
    pub fn inner<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(self.namespace.as_str())
    }

    /// Partitions of all topics; asked again while one that was made a moment ago is missing, since any broker may have answered.
    fn partitions_of_all(&self) -> Result<BTreeMap<TopicName, (i32, i16)>, TopicError> {
        loop {
            let all = self.partitions_that_one_broker_knows()?;
            let mut made = self.made.lock();
            made.retain(|_, at| at.elapsed() < SPREAD);
            if made.keys().all(|topic| all.contains_key(topic)) {
                return Ok(all);
            }
            drop(made);
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn partitions_that_one_broker_knows(&self) -> Result<BTreeMap<TopicName, (i32, i16)>, TopicError> {
        // All of them: asking for one that is not there may make it.
        let metadata =
            self.reader.fetch_metadata(None, ANSWER).map_err(|e| Failure::from(e).of("ask Kafka for topics"))?;
        let topics = metadata.topics().iter().filter(|t| t.error().is_none()).filter_map(|topic| {
            let name = TopicName::new(self.inner(topic.name())?);
            let ready = topic.partitions().iter().all(|p| p.leader() >= 0);
            let replicas = topic.partitions().first().map_or(1, |p| p.replicas().len() as i16);
            (ready && !topic.partitions().is_empty()).then(|| (name, (topic.partitions().len() as i32, replicas)))
        });
        Ok(topics.collect())
    }

    /// Number of partitions; remembered, since a topic is asked for with each commit.
    pub fn partitions(&self, topic: &TopicName) -> Result<i32, TopicError> {
        if let Some(known) = self.known.lock().get(topic) {
            return Ok(*known);
        }
        let all = self.partitions_of_all()?;
        let mut known = self.known.lock();
        *known = all.iter().map(|(name, (partitions, _))| (name.clone(), *partitions)).collect();
        known.get(topic).copied().ok_or_else(|| TopicError::UnknownTopic(topic.clone()))
    }

    /// Checks that a partition is there.
    pub fn check(&self, at: &TopicPartition) -> Result<(), TopicError> {
        let partitions = self.partitions(&at.topic)?;
        if (0..partitions).contains(&at.partition) {
            return Ok(());
        }
        Err(TopicError::UnknownPartition { topic: at.topic.clone(), partition: at.partition })
    }

    /// Forgets what is remembered of topics.
    pub fn forget_known(&self) {
        self.known.lock().clear();
    }

    /// See [`crate::topic::Log::create_topic`].
    pub fn create(&self, spec: &TopicSpec, more: &[(&str, &str)]) -> Result<(), TopicError> {
        check_spec(spec)?;
        let name = self.outer(spec.name.as_str());
        let retention = |limit: Option<i64>| limit.unwrap_or(-1).to_string();
        let (ms, bytes) = (retention(spec.cleanup.retention_ms), retention(spec.cleanup.retention_bytes));
        let limited = spec.cleanup.retention_ms.is_some() || spec.cleanup.retention_bytes.is_some();
        let policy = match (spec.cleanup.compact, limited) {
            (true, true) => "compact,delete",
            (true, false) => "compact",
            (false, _) => "delete",
        };
        let replicas = match spec.replicas {
            i16::MAX => -1,
            n => i32::from(n),
        };
        let mut topic = NewTopic::new(&name, spec.partitions, TopicReplication::Fixed(replicas))
            .set("cleanup.policy", policy)
            .set("retention.ms", &ms)
            .set("retention.bytes", &bytes);
        for (name, value) in more {
            topic = topic.set(name, value);
        }
        let answer = block_on(self.client.create_topics([&topic], &admin_options()));
        let failed = |f: Failure| f.of_topic("create topic", &spec.name);
        let made = answer.map_err(|e| failed(e.into()))?.into_iter().try_for_each(|r| r.map(drop));
        let made = made.map_err(|(_, code)| failed(code.into()));
        if let Err(error) = &made
            && !matches!(error, TopicError::Exists(_))
        {
            return made;
        }
        // One that another node has just made may not be shown yet either, and who is told that it exists looks at it next.
        let shown = self.settle(|| Ok(self.partitions_of_all()?.contains_key(&spec.name)), &spec.name);
        self.made.lock().insert(spec.name.clone(), Instant::now());
        made.and(shown)
    }

    /// See [`crate::topic::Log::delete_topic`].
    pub fn delete(&self, topic: &TopicName) -> Result<(), TopicError> {
        let name = self.outer(topic.as_str());
        self.made.lock().remove(topic);
        let answer = block_on(self.client.delete_topics(&[&name], &admin_options()));
        let failed = |f: Failure| f.of_topic("delete topic", topic);
        for result in answer.map_err(|e| failed(e.into()))? {
            result.map_err(|(_, code)| failed(code.into()))?;
        }
        self.settle(|| Ok(!self.partitions_of_all()?.contains_key(topic)), topic)
    }

    fn settle(&self, done: impl Fn() -> Result<bool, TopicError>, topic: &TopicName) -> Result<(), TopicError> {
        let deadline = Instant::now() + SETTLE;
        while !done()? {
            if Instant::now() > deadline {
                let what = format!("change topic '{topic}'");
                return Err(TopicError::Io { what, reason: "the cluster does not show it yet".to_owned() });
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        self.forget_known();
        Ok(())
    }

    /// Topics with what is configured of them.
    pub fn topics(&self, wanted: Option<&TopicName>) -> Result<Vec<TopicSpec>, TopicError> {
        let mut found = self.partitions_of_all()?;
        if let Some(wanted) = wanted {
            found.retain(|name, _| name == wanted);
        }
        let outer: Vec<String> = found.keys().map(|name| self.outer(name.as_str())).collect();
        if outer.is_empty() {
            return Ok(Vec::new());
        }
        let resources: Vec<_> = outer.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let answer = block_on(self.client.describe_configs(&resources, &admin_options()));
        let answer = answer.map_err(|e| Failure::from(e).of("ask Kafka for its topics' settings"))?;
        // One that cannot be described is being deleted, or not for our eyes.
        let configs: HashMap<String, Cleanup> =
            answer.into_iter().flatten().filter_map(|c| named_cleanup(&c)).collect();
        let specs = found.into_iter().map(|(name, (partitions, replicas))| {
            let cleanup = configs.get(&self.outer(name.as_str())).copied().unwrap_or_default();
            TopicSpec { name, partitions, replicas, cleanup }
        });
        Ok(specs.collect())
    }

    /// Start and committed end of a partition.
    pub fn bounds(&self, at: &TopicPartition) -> Result<Bounds, TopicError> {
        self.check(at)?;
        let name = self.outer(at.topic.as_str());
        let deadline = Instant::now() + ANSWER;
        loop {
            match self.reader.fetch_watermarks(&name, at.partition, ANSWER).map_err(Failure::from) {
                Ok((start, end)) => return Ok(Bounds { start, end }),
                // A broker that just learns to lead a new topic says so.
                Err(failure) if is_passing(&failure) && Instant::now() < deadline => {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                Err(failure) => {
                    self.forget_known();
                    return Err(failure.of_topic("ask for the end of", &at.topic));
                }
            }
        }
    }

    /// The end of a partition with all that is not decided yet.
    pub fn undecided_end(&self, at: &TopicPartition) -> Result<Offset, TopicError> {
        let name = self.outer(at.topic.as_str());
        let deadline = Instant::now() + ANSWER;
        let mut looked_anew = false;
        loop {
            match self.client.inner().fetch_watermarks(&name, at.partition, ANSWER).map_err(Failure::from) {
                Ok((_, end)) => return Ok(end),
                // The client remembers how many partitions a topic has for a quarter of an hour; another node may have given it more.
                Err(failure) if failure.is(RDKafkaErrorCode::UnknownPartition) && !looked_anew => {
                    looked_anew = true;
                    let known = self.client.inner().fetch_metadata(Some(&name), ANSWER).map_err(Failure::from);
                    known.map_err(|failure| failure.of_topic("ask for the end of", &at.topic))?;
                }
                // As above; a topic that is not there is no such case here, since nobody waits for it.
                Err(failure)
                    if (failure.is(RDKafkaErrorCode::NotLeaderForPartition)
                        || failure.is(RDKafkaErrorCode::LeaderNotAvailable))
                        && Instant::now() < deadline =>
                {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                Err(failure) => return Err(failure.of_topic("ask for the end of", &at.topic)),
            }
        }
    }

    /// Names of all topics.
    pub fn names(&self) -> Result<Vec<TopicName>, TopicError> {
        Ok(self.partitions_of_all()?.into_keys().collect())
    }

    /// See [`crate::topic::Log::positions`].
    pub fn positions(&self, owner: &Owner) -> Result<BTreeMap<TopicPartition, Position>, TopicError> {
        if owner.0.is_empty() {
            return Ok(BTreeMap::new());
        }
        let positions = self.group_offsets(owner, None, &|_| {})?.into_iter();
        Ok(positions.map(|(at, position, _)| (at, position)).collect())
    }

    /// See [`crate::topic::Log::position`]. `unstable` is told the node that committed it last if a transaction holds it for long.
    pub fn position(
        &self,
        owner: &Owner,
        at: &TopicPartition,
        unstable: &dyn Fn(&str),
    ) -> Result<Option<Position>, TopicError> {
        if owner.0.is_empty() {
            return Ok(None);
        }
        Ok(self.group_offsets(owner, Some(at), unstable)?.pop().map(|(_, position, _)| position))
    }

    /// The nodes that noted positions in partitions of this number last, whatever a transaction holds.
    pub fn nodes_at(&self, owner: &Owner, partition: i32) -> Vec<String> {
        let known = self.group_offsets_now(&self.outer(&owner.0), None, false).unwrap_or_default();
        let mut nodes: Vec<String> =
            known.into_iter().filter(|(at, ..)| at.partition == partition).map(|(.., node)| node).collect();
        nodes.retain(|node| !node.is_empty());
        nodes.dedup();
        nodes
    }

    /// Committed positions, all or the one of a partition, with the nodes that noted them; waits for transactions over them.
    fn group_offsets(
        &self,
        owner: &Owner,
        only: Option<&TopicPartition>,
        unstable: &dyn Fn(&str),
    ) -> Result<Vec<(TopicPartition, Position, String)>, TopicError> {
        let group = self.outer(&owner.0);
        let (start, mut told) = (Instant::now(), false);
        loop {
            let failure = match self.group_offsets_now(&group, only, true) {
                Ok(positions) => return Ok(positions),
                Err(failure) if failure.is(RDKafkaErrorCode::GroupIdNotFound) => return Ok(Vec::new()),
                Err(failure) => failure,
            };
            let goes_by = is_passing(&failure) || failure.is(RDKafkaErrorCode::OperationTimedOut);
            if !goes_by || start.elapsed() > ANSWER {
                return Err(failure.of(&format!("ask for the positions of '{owner}'", owner = owner.0)));
            }
            if failure.is(RDKafkaErrorCode::UnstableOffsetCommit) && start.elapsed() > UNSTABLE && !told {
                let known = self.group_offsets_now(&group, only, false).unwrap_or_default();
                known.iter().filter(|(_, _, node)| !node.is_empty()).for_each(|(_, _, node)| unstable(node));
                told = true;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn asker(&self) -> Result<Arc<Consumer>, Failure> {
        let mut asker = self.asker.lock();
        if let Some(asker) = &*asker {
            return Ok(asker.clone());
        }
        Ok(asker.insert(Consumer::new(&self.asker_config, None)?).clone())
    }

    /// Asks about a group.
    fn ask<T>(&self, question: impl FnOnce(&Consumer) -> Result<T, Failure>) -> Result<T, Failure> {
        let asker = self.asker()?;
        let answer = question(&asker);
        // Nobody else hears what it has to say.
        asker.consume(Duration::ZERO, &mut |_| {});
        let is_answer = |failure: &Failure| {
            failure.is(RDKafkaErrorCode::UnstableOffsetCommit)
                || failure.is(RDKafkaErrorCode::GroupIdNotFound)
                || failure.is(RDKafkaErrorCode::UnknownMemberId)
        };
        if answer.as_ref().is_err_and(|failure| !is_answer(failure)) {
            // The client goes on asking the broker that it knows of, for a quarter of an hour, whether that answers or not.
            self.asker.lock().take_if(|now| Arc::ptr_eq(now, &asker));
        }
        answer
    }

    /// Commits offsets outside of a transaction as nobody of the group, which Kafka takes only while that has no members.
    pub fn set_offsets(&self, owner: &Owner, offsets: &TopicPartitionList) -> Result<(), Failure> {
        let group = self.outer(&owner.0);
        let deadline = Instant::now() + ANSWER;
        loop {
            match self.ask(|asker| native::alter_group_offsets(asker, &group, offsets, ASK)) {
                Err(failure)
                    if (is_passing(&failure) || failure.is(RDKafkaErrorCode::OperationTimedOut))
                        && Instant::now() < deadline =>
                {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                done => return done,
            }
        }
    }

    fn group_offsets_now(
        &self,
        group: &str,
        only: Option<&TopicPartition>,
        stable: bool,
    ) -> Result<Vec<(TopicPartition, Position, String)>, Failure> {
        let offsets = self.ask(|asker| native::group_offsets(asker, group, stable, ASK))?;
        let mut positions = Vec::with_capacity(offsets.len());
        for found in offsets {
            let Some(topic) = self.inner(&found.topic) else { continue };
            let at = TopicPartition::new(topic, found.partition);
            if only.is_some_and(|only| *only != at) {
                continue;
            }
            let (offset, metadata) = found.offset?;
            if offset >= 0 {
                let (consumed, node) = read_metadata(&metadata);
                positions.push((at, Position { offset, consumed }, node.to_owned()));
            }
        }
        Ok(positions)
    }

    /// Positions as Kafka takes them, noted by a node.
    pub fn offsets(
        &self,
        positions: &[(TopicPartition, Position)],
        node: &str,
    ) -> Result<TopicPartitionList, TopicError> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (at, position) in positions {
            let mut element = list.add_partition(&self.outer(at.topic.as_str()), at.partition);
            element
                .set_offset(KafkaOffset::Offset(position.offset))
                .map_err(|e| Failure::from(e).of("note an offset"))?;
            if position.consumed > 0 || !node.is_empty() {
                element.set_metadata(format!("{CONSUMED}{}:{node}", position.consumed));
            }
        }
        Ok(list)
    }

    /// Groups of this namespace.
    pub fn groups(&self) -> Result<Vec<String>, TopicError> {
        let list =
            self.reader.fetch_group_list(None, ANSWER).map_err(|e| Failure::from(e).of("ask Kafka for groups"))?;
        Ok(list.groups().iter().filter_map(|g| self.inner(g.name())).map(str::to_owned).collect())
    }

    /// The members of a group with their partitions, in its assignor's order.
    pub fn holders(&self, owner: &Owner) -> Result<Vec<Holder>, TopicError> {
        let group = self.outer(&owner.0);
        let list = self.reader.fetch_group_list(Some(&group), ANSWER);
        let list = list.map_err(|e| Failure::from(e).of(&format!("ask for the members of '{group}'")))?;
        let members = list.groups().iter().flat_map(|g| g.members());
        let holders = members.map(|member| {
            let partitions = membership::assigned(member.assignment().unwrap_or_default());
            let partitions = partitions
                .into_iter()
                .filter_map(|(topic, partition)| Some(TopicPartition::new(self.inner(&topic)?, partition)));
            let url = Some(member.client_id()).filter(|id| id.contains("://")).map(str::to_owned);
            Holder { member: member.id().to_owned(), url, partitions: partitions.collect() }
        });
        let mut holders: Vec<Holder> = holders.collect();
        Holder::sort(&mut holders);
        Ok(holders)
    }

    /// Groups of this namespace without members. Of groups of the newer protocol Kafka's older answer says nothing; they are not among them.
    pub fn idle_groups(&self) -> Result<Vec<String>, TopicError> {
        let list =
            self.reader.fetch_group_list(None, ANSWER).map_err(|e| Failure::from(e).of("ask Kafka for groups"))?;
        let idle = list.groups().iter().filter(|g| g.state() == "Empty");
        Ok(idle.filter_map(|g| self.inner(g.name())).map(str::to_owned).collect())
    }

    /// Deletes a group, if it is there; one with members is waited for: a static one does not say good-bye.
    pub fn delete_group(&self, owner: &Owner) -> Result<(), TopicError> {
        let group = self.outer(&owner.0);
        let deadline = Instant::now() + SETTLE + self.session;
        loop {
            let answer = block_on(self.client.delete_groups(&[&group], &admin_options())).map_err(Failure::from);
            let code = match answer {
                Ok(results) => results.into_iter().find_map(|r| r.err().map(|(_, code)| Failure::from(code))),
                Err(failure) => Some(failure),
            };
            match code {
                None => return Ok(()),
                Some(f) if f.is(RDKafkaErrorCode::GroupIdNotFound) => return Ok(()),
                Some(f) if (f.is(RDKafkaErrorCode::NonEmptyGroup) || is_passing(&f)) && Instant::now() < deadline => {
                    std::thread::park_timeout(Duration::from_millis(50));
                }
                Some(f) => return Err(f.of(&format!("delete group '{group}'"))),
            }
        }
    }

    /// Deletes the records before an offset.
    pub fn delete_records(&self, at: &TopicPartition, before: Offset) -> Result<(), TopicError> {
        self.check(at)?;
        let end = self.bounds(at)?.end;
        let position = Position { offset: before.min(end), consumed: 0 };
        let list = self.offsets(&[(at.clone(), position)], "")?;
        let answer = block_on(self.client.delete_records(&list, &admin_options()));
        let answer = answer.map_err(|e| Failure::from(e).of_topic("delete records of", &at.topic))?;
        for element in answer.elements() {
            element.error().map_err(|e| Failure::from(e).of_topic("delete records of", &at.topic))?;
        }
        Ok(())
    }
}

/// True for what a moment later may be over.
pub(super) fn is_passing(failure: &Failure) -> bool {
    matches!(
        failure.code,
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::UnstableOffsetCommit
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
        )
    )
}

/// True for what a member of a group is told that gets over it by itself.
pub(super) fn is_passing_in_group(failure: &Failure) -> bool {
    is_passing(failure)
        || matches!(
            failure.code,
            Some(
                RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::Resolve
                    | RDKafkaErrorCode::OperationTimedOut
                    | RDKafkaErrorCode::RequestTimedOut
                    | RDKafkaErrorCode::PollExceeded
                    | RDKafkaErrorCode::RebalanceInProgress
                    | RDKafkaErrorCode::IllegalGeneration
                    | RDKafkaErrorCode::UnknownMemberId
                    | RDKafkaErrorCode::NoOffset
            )
        )
}

/// The part of a batch that is consumed, and the node that noted it, if it said so.
fn read_metadata(metadata: &str) -> (u32, &str) {
    let Some(rest) = metadata.strip_prefix(CONSUMED) else { return (0, "") };
    let (consumed, node) = rest.split_once(':').unwrap_or((rest, ""));
    (consumed.parse().unwrap_or(0), node)
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER))
}

fn named_cleanup(config: &ConfigResource) -> Option<(String, Cleanup)> {
    match &config.specifier {
        OwnedResourceSpecifier::Topic(name) => Some((name.clone(), cleanup_of(config))),
        _ => None,
    }
}

fn cleanup_of(config: &ConfigResource) -> Cleanup {
    let text = |name: &str| config.get(name).and_then(|entry| entry.value.as_deref());
    let policy = text("cleanup.policy").unwrap_or("delete");
    let limit =
        |name: &str| text(name).and_then(|v| v.parse().ok()).filter(|n: &i64| *n >= 0 && policy.contains("delete"));
    Cleanup {
        compact: policy.contains("compact"),
        retention_ms: limit("retention.ms"),
        retention_bytes: limit("retention.bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::read_metadata;

    #[test]
    fn metadata_of_each_release_is_read() {
        assert_eq!(read_metadata("riverrun:1:7:0a1b"), (7, "0a1b"));
        assert_eq!(read_metadata("riverrun:1:7"), (7, ""));
        assert_eq!(read_metadata("somebody else's"), (0, ""));
        assert_eq!(read_metadata(""), (0, ""));
    }
}

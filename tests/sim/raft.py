"""The election of a leader, as in Raft: nodes ask each other for votes, and a majority elects one for a term.

A node gives one vote in each term. So it must have its term and its vote on the disk before it answers, and
must count no vote of another term. With `syncs` or `checks` False it does not do so, and a term may have two
leaders.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random

import hoop
import hoop.sim

PORT = 5000
STATE = "/data/state"
HEARTBEAT = 0.3
PATIENCE = (1.0, 1.4)  # seconds without a leader, until a node stands for election


class Inbox(asyncio.DatagramProtocol):
    """Keeps the messages that come."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict] = asyncio.Queue()

    def datagram_received(self, data, address):
        self.messages.put_nowait(json.loads(data))


class Node:
    """A member of the cluster. All that it must not forget is in its file."""

    def __init__(self, name, names, found, syncs, checks):
        self.name = name
        self.others = [other for other in names if other != name]
        self.found = found  # called with the term and the name of a leader
        self.syncs = syncs
        self.checks = checks
        self.term = 0
        self.vote = None
        self.votes = set()
        self.role = "follower"

    async def run(self):
        loop = asyncio.get_running_loop()
        try:
            self.term, self.vote = json.loads(await hoop.read_text(STATE))
        except ValueError:  # only without `syncs`
            self.term, self.vote = 0, None
        self.transport, inbox = await loop.create_datagram_endpoint(
            Inbox, local_addr=(self.name, PORT)
        )
        self.wait()
        while True:
            try:
                async with asyncio.timeout_at(self.deadline):
                    message = await inbox.messages.get()
            except TimeoutError:
                await self.act()
            else:
                await self.handle(**message)

    def wait(self):
        """Wait for news of a leader, or for the next heartbeat."""
        seconds = HEARTBEAT if self.role == "leader" else random.uniform(*PATIENCE)
        self.deadline = asyncio.get_running_loop().time() + seconds

    def send(self, kind, *to):
        message = json.dumps({"kind": kind, "term": self.term, "sender": self.name})
        for name in to:
            self.transport.sendto(message.encode(), (name, PORT))

    async def save(self):
        """Keep the term and the vote."""
        text = json.dumps([self.term, self.vote])
        await hoop.write_text(STATE, text, atomic=self.syncs)

    async def act(self):
        """Nothing came in time: stand for election. A leader says that it is there."""
        if self.role == "leader":
            self.send("alive", *self.others)
        else:
            self.role = "candidate"
            self.term += 1
            self.vote = self.name
            self.votes = {self.name}
            await self.save()
            self.send("ask", *self.others)
        self.wait()

    async def handle(self, kind, term, sender):
        if term > self.term:
            self.term, self.vote, self.role = term, None, "follower"
            self.wait()
        if kind == "ask" and term == self.term and self.vote in (None, sender):
            self.vote = sender
            await self.save()
            self.send("vote", sender)
            self.wait()
        elif kind == "vote" and self.role == "candidate":
            if term == self.term or not self.checks:
                self.votes.add(sender)
            if len(self.votes) > (len(self.others) + 1) // 2:
                self.role = "leader"
                self.found(self.term, self.name)
                await self.act()
        elif kind == "alive" and term == self.term:
            self.role = "follower"
            self.wait()


def disk():
    """The disk of a node that has not run yet."""
    made = hoop.sim.Disk()
    made.write(STATE, b"[0, null]")
    return made


async def elect(size, syncs, checks, world):
    """Run a cluster with faults. No term has two leaders, and after the faults there is one."""
    names = [f"node-{n}" for n in range(size)]
    leaders = {}  # by term
    nodes = {}

    def found(term, name):
        hoop.sim.always(leaders.setdefault(term, name) == name, "a term has two leaders")

    async def run(name):
        nodes[name] = Node(name, names, found, syncs, checks)
        await nodes[name].run()

    hosts = [world.host(name, functools.partial(run, name)) for name in names]
    links = world.link(hosts, hosts).latency(0.001, random.choice([0.05, 0.5, 1.5]))
    for _ in range(12):
        await asyncio.sleep(random.uniform(0, 2))
        await harm(world, hosts)
    hoop.sim.sometimes(len(leaders) > 2, "leaders follow each other")
    world.heal()
    links.latency(0.001, 0.05)
    for host in hosts:
        if not host.is_running:
            host.restart()
    await world.until(lambda: agree(nodes.values()), within=60)


def agree(nodes):
    """Whether all nodes have one leader."""
    roles = sorted(node.role for node in nodes)
    same_term = len({node.term for node in nodes}) == 1
    return same_term and roles == ["follower"] * (len(roles) - 1) + ["leader"]


async def harm(world, hosts):
    """Do the cluster some harm."""
    victim = random.choice(hosts)
    what = random.choice(
        ["power", "power", "power", "crash", "pause", "partition", "one way", "heal"]
    )
    if what == "power":
        victim.power_loss()
    elif what == "crash":
        victim.crash(silent=False)
    elif what == "pause":
        victim.pause()
        await asyncio.sleep(random.uniform(0, 5))
        victim.resume()
    elif what == "heal":
        world.heal()
    else:
        others = [host for host in hosts if host is not victim]
        world.partition(victim, others, one_way=what == "one way")
    if not victim.is_running:
        await asyncio.sleep(random.uniform(0, 0.1))
        victim.restart()


PROGRAMS = {"raft": functools.partial(elect, 5, True, True)}


def prepare(name):
    """A program as a main function, and the settings of its simulation."""
    return PROGRAMS[name], {"order": "mix", "disk": disk()}

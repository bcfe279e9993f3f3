"""Which models are in memory: loading, waking and letting go within a budget, and making room for one large job."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cortex_pipelines.lanes.errors import (
    Asleep,
    AttemptError,
    BadRequest,
    LaneFailed,
    LoadFailed,
    Overloaded,
    TimedOut,
)
from cortex_pipelines.lanes.health import LOAD_SECONDS, Effect, State
from cortex_pipelines.lanes.replies import Held, Keeper, Served
from cortex_pipelines.lanes.resolution import WIDEST, Endpoint, chain
from cortex_pipelines.names import Lane

if TYPE_CHECKING:
    from cortex_pipelines.lanes.router import Lanes
    from cortex_pipelines.settings import Settings

# Calls under way may end before their model is let go; one that takes longer keeps it.
DRAIN_SECONDS = 120.0
POLL_SECONDS = 0.1
POLL_SECONDS_AT_MOST = 2.0
# A server that was told to load and still says that it does not, does not. llama.cpp's router says "loading" at once.
NO_START_SECONDS = 5.0
_LOOPBACK = "127.0.0.1"
_BURST = "burst"


class Residency:
    """The models of all lanes' servers that can be told to load and to let go.

    One process of a machine at a time changes what the models' machine holds; the others wait, and find it done.
    """

    def __init__(self, lanes: "Lanes", settings: "Settings") -> None:
        self._lanes = lanes
        self._settings = settings
        self._journal = lanes.folder / "burst.json"

    async def load(self, endpoint: Endpoint, *, seconds: float = LOAD_SECONDS, evict: bool = True) -> bool:
        """Have an endpoint's model in memory and answering; whether it was not there before.

        Where memory is limited, models that were used longest ago are let go for it, if `evict`. Raises an
        `AttemptError`: `Asleep` while room is made for a large job, `LoadFailed` with the sum where it cannot fit.
        """
        if not await self.recover() and endpoint in self._read()[0]:
            raise Asleep("a large job has the room")
        served = await self._lanes.probe(endpoint)
        if served.keeper is None or served.held is Held.LOADED:
            # Nobody has to wait for others who load.
            return False
        return await self._load(endpoint, seconds, evict)

    async def unload(self, endpoint: Endpoint, *, seconds: float = DRAIN_SECONDS) -> bool:
        """Let go of an endpoint's model when its calls have ended; whether it was in memory.

        Raises `Overloaded` where calls are still under way after `seconds`. Whoever calls the lane loads it again.
        """
        async with self._hold(self._machine(endpoint), LOAD_SECONDS):
            return await self._let_go(endpoint, seconds)

    def warm(self, lanes: Iterable[Lane]) -> None:
        """Begin to `prewarm`, and go on."""
        from cortex_pipelines.lanes.client import begin

        if wanted := list(lanes):
            begin(self.prewarm(wanted))

    async def prewarm(self, lanes: Iterable[Lane]) -> dict[Lane, str]:
        """Load the first model of each lane that is not in memory, where there is room; what came of each.

        What is loaded already, or cannot be told to, is left as it is. Nothing is let go for it, and nothing raised.
        """

        async def one(lane: Lane) -> str:
            step = next(iter(chain(self._settings, lane)), None)
            if step is None:
                return "no model"
            try:
                return "loaded" if await self.load(step.endpoints[0], evict=False) else "as it was"
            except AttemptError as error:
                return f"{error.kind}: {error}"

        wanted = list(dict.fromkeys(lanes))
        return dict(zip(wanted, await asyncio.gather(*[one(lane) for lane in wanted]), strict=True))

    @contextmanager
    def burst(self, lane: Lane = WIDEST) -> Iterator["Lanes"]:
        """Make room for a large job: of the models on the same machine only the lane's stays in memory.

        Gives lanes whose `lane` goes to `CORTEX_BURST_MODEL` where that is set. What was in memory before is loaded
        again at the end, also when the job fails; after a kill, by whoever next needs one of these models, or looks.
        Raises `LaneFailed` where room cannot be made.
        """
        from cortex_pipelines.lanes.client import run

        wide = self._wide(lane)
        try:
            run(self._make_way(wide, lane))
        except AttemptError as error:
            raise LaneFailed(f"no room for a large job of the lane {lane}: {error}") from error
        try:
            yield wide
        finally:
            run(self._end())

    async def recover(self) -> bool:
        """Restore what a killed burst left; whether no burst is under way."""
        if not self._journal.exists():
            return True
        if not self._lanes.health.claim(_BURST):
            return False
        try:
            await self._restore()
        finally:
            self._lanes.health.release(_BURST)
        return True

    # One model.

    async def _load(self, endpoint: Endpoint, seconds: float, evict: bool) -> bool:
        async with self._hold(self._machine(endpoint), seconds):
            served = await self._lanes.probe(endpoint)
            if served.keeper is None or served.held is Held.LOADED:
                return False
            if served.held is not Held.LOADING:
                await self._keep_way(endpoint)
                await self._make_room(endpoint, served, evict)
                await self._lanes.tell(endpoint, served, load=True, seconds=seconds)
            await self._until(endpoint, Held.LOADED, seconds)
            # The first token after a load takes long: it is not a caller's.
            with suppress(BadRequest):
                await self._lanes.one_token(endpoint)
            for sharing in self._sharing(endpoint, served):
                self._lanes.health.probed(sharing.name, sharing.model, Effect.ANSWERED)
            return True

    async def _let_go(self, endpoint: Endpoint, seconds: float) -> bool:
        served = await self._lanes.probe(endpoint)
        if served.keeper is None or served.held is Held.UNLOADED:
            return False
        sharing, health = self._sharing(endpoint, served), self._lanes.health
        until = time.monotonic() + seconds
        while busy := sum(health.put_aside(e.name, e.model, State.DRAINING, "") for e in sharing):
            if time.monotonic() >= until:
                for one in sharing:
                    health.probed(one.name, one.model, Effect.WELL)
                raise Overloaded(f"{busy} calls are still under way")
            await asyncio.sleep(POLL_SECONDS)
        await self._lanes.tell(endpoint, served, load=False, seconds=LOAD_SECONDS)
        await self._until(endpoint, Held.UNLOADED, LOAD_SECONDS)
        for one in sharing:
            health.put_aside(one.name, one.model, State.ASLEEP, "let go", 0)
        return True

    async def _until(self, endpoint: Endpoint, wanted: Held, seconds: float) -> None:
        began, pause = time.monotonic(), POLL_SECONDS
        while True:
            held = (await self._lanes.probe(endpoint)).held
            if held is wanted:
                return
            taken = time.monotonic() - began
            if wanted is Held.LOADED and held is Held.UNLOADED and taken > NO_START_SECONDS:
                raise LoadFailed("it was told to load the model, and does not")
            if taken > seconds:
                raise TimedOut(f"the model is not {wanted} after {seconds:.0f} s")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, POLL_SECONDS_AT_MOST)

    async def _make_room(self, endpoint: Endpoint, served: Served, evict: bool) -> None:
        """Let go of what was used longest ago until the endpoint's model fits, or raise `LoadFailed` with the sum."""
        budget = self._settings.model_memory
        if budget is None:
            return
        need = footprint(endpoint, served)
        held = {other: footprint(other, told) for other, told in (await self._loaded_beside(endpoint)).items()}
        status = self._lanes.health.status
        oldest = sorted(held, key=lambda other: status(other.name, other.model).record.seen_at)
        for other in oldest if evict else ():
            if need + sum(held.values()) <= budget:
                break
            with suppress(AttemptError):
                if held[other] and await self._let_go(other, DRAIN_SECONDS):
                    del held[other]
        taken = sum(held.values())
        if need + taken > budget:
            raise LoadFailed(
                f"{need / 1e9:.1f} GB for the model and {taken / 1e9:.1f} GB in use do not fit {budget / 1e9:.1f} GB"
            )

    async def _loaded_beside(self, endpoint: Endpoint) -> dict[Endpoint, Served]:
        """The other models in memory on the endpoint's machine. A server that does not answer holds none."""
        machine = self._machine(endpoint)
        others = [other for other in self._endpoints() if self._machine(other) == machine and other != endpoint]
        told = await asyncio.gather(*[self._lanes.probe(other) for other in others], return_exceptions=True)
        found: dict[Endpoint, Served] = {}
        met: set[tuple[str, str | None]] = set()
        for other, served in zip(others, told, strict=True):
            if isinstance(served, Served) and served.held in (Held.LOADED, None):
                # Two lanes may name one model, one of them not at all.
                model = other.model or next(iter(served.models), None)
                mine = other.name == endpoint.name and model == (endpoint.model or model)
                if not mine and (other.name, model) not in met:
                    met.add((other.name, model))
                    found[other] = served
        return found

    def _sharing(self, endpoint: Endpoint, served: Served) -> list[Endpoint]:
        """The endpoints that come and go with this one: all of a vLLM server, of others those of the same model."""
        same = [other for other in self._endpoints() if other.name == endpoint.name]
        if served.keeper is not Keeper.VLLM:
            same = [other for other in same if other.model == endpoint.model]
        return list(dict.fromkeys([endpoint, *same]))

    def _endpoints(self) -> list[Endpoint]:
        """Every endpoint of every lane that is a server, each once."""
        steps = [step for lane in Lane for step in chain(self._settings, lane)]
        return list(dict.fromkeys(endpoint for step in steps for endpoint in step.endpoints if endpoint.url))

    def _machine(self, endpoint: Endpoint) -> str:
        """The machine whose memory a model is in: what `CORTEX_MODEL_HOSTS` names is one."""
        host = urlsplit(endpoint.url).hostname or ""
        if host in self._settings.model_hosts:
            return self._settings.model_hosts[0]
        return _LOOPBACK if host in ("localhost", "::1") else host

    @asynccontextmanager
    async def _hold(self, what: str, seconds: float) -> AsyncIterator[None]:
        health, until = self._lanes.health, time.monotonic() + seconds
        while not health.claim(what):
            if time.monotonic() > until:
                raise TimedOut(f"another process has been loading models on {what} for {seconds:.0f} s")
            await asyncio.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            health.release(what)

    # Room for a large job.

    def _wide(self, lane: Lane) -> "Lanes":
        """Lanes for the job: the same, but for the model of its lane."""
        model = self._settings.burst_model
        if model is None:
            return self._lanes
        own = self._settings.lanes[lane].model_copy(update={"model": model})
        changed = self._settings.model_copy(update={"lanes": {**self._settings.lanes, lane: own}})
        return self._lanes.with_settings(changed)

    async def _make_way(self, wide: "Lanes", lane: Lane) -> None:
        health, until = self._lanes.health, time.monotonic() + LOAD_SECONDS
        while not health.claim(_BURST):
            if time.monotonic() > until:
                raise TimedOut("another large job has not ended")
            await asyncio.sleep(POLL_SECONDS)
        try:
            # What another one left when it was killed.
            await self._restore()
            target = wide.resolve(lane).endpoints[0]
            beside = await self._loaded_beside(target)
            others = [other for other, served in beside.items() if served.keeper is not None]
            before = await self._lanes.probe(target)
            passing = before.keeper is not None and before.held is Held.UNLOADED
            self._write(others, target if passing else None)
            for other in others:
                await self.unload(other)
            await self._load(target, LOAD_SECONDS, evict=True)
        except BaseException:
            await self._end()
            raise

    async def _keep_way(self, endpoint: Endpoint) -> None:
        """Let go again of what has come back in a burst, with a server that was started anew, before its model does."""
        # The lanes of the job do not know their own lane's usual model.
        away, passing = self._read(configured=False)
        if passing is not None and (passing.url, passing.model) == (endpoint.url, endpoint.model):
            for other in away:
                with suppress(AttemptError):
                    await self._let_go(other, DRAIN_SECONDS)

    async def _end(self) -> None:
        try:
            await self._restore()
        finally:
            self._lanes.health.release(_BURST)

    async def _restore(self) -> None:
        """Load again what the journal names; what cannot be had now stays in it for the next who looks."""
        restore, passing = self._read()
        if passing is not None:
            with suppress(AttemptError):
                await self.unload(passing)
        left = []
        for endpoint in restore:
            try:
                await self._load(endpoint, LOAD_SECONDS, evict=False)
            except AttemptError:
                left.append(endpoint)
        if left:
            self._write(left, None)
        else:
            self._journal.unlink(missing_ok=True)

    def _read(self, configured: bool = True) -> tuple[list[Endpoint], Endpoint | None]:
        """The endpoints to load again, and the one to let go of: as far as they are `configured`, or all of them."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(self._journal.read_text(encoding="utf-8"))
            known = {(endpoint.url, endpoint.model): endpoint for endpoint in self._endpoints()}

            def named(url: str, model: str | None) -> Endpoint:
                # Of the burst model only its server is configured, and its key with it.
                beside = next((e for e in known.values() if e.url == url), Endpoint(url))
                return known.get((url, model)) or replace(beside, model=model, model_path=None)

            restore = [named(url, model) for url, model in told["restore"] if not configured or (url, model) in known]
            return restore, named(*told["unload"]) if told["unload"] else None
        return [], None

    def _write(self, restore: Iterable[Endpoint], passing: Endpoint | None) -> None:
        told = {
            "restore": [[endpoint.url, endpoint.model] for endpoint in restore],
            "unload": [passing.url, passing.model] if passing else None,
        }
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._journal.with_suffix(".tmp")
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(told, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._journal)


def footprint(endpoint: Endpoint, served: Served) -> int:
    """What a model takes in memory, in bytes: weights, buffers and the KV cache of its whole context.

    Known from the files that its lane's `MODEL_PATH` names, else from the size that llama.cpp tells of a loaded model,
    then without the cache. 0 where nobody knows.
    """
    from cortex_pipelines.lanes.memory import CacheType, ModelUnreadable, overhead, read_geometry

    if endpoint.model_path is None:
        return served.size + overhead(served.size) if served.size else 0
    try:
        geometry = read_geometry(endpoint.model_path)
    except ModelUnreadable as error:
        raise LoadFailed(f"what the model takes is not known: {error}") from error
    kinds = {kind.value: kind for kind in CacheType}
    # A type that is not known takes no more than f16.
    key, value = (kinds.get(served.argument(f"--cache-type-{of}") or "", CacheType.F16) for of in "kv")
    told = served.argument("--ctx-size") or ""
    context = int(told) if told.isdigit() else (served.window or 0) * (served.slots or 1)
    cache = (context or geometry.window or 0) * geometry.kv_bytes_per_token(key, value)
    return geometry.weights_bytes + overhead(geometry.weights_bytes) + cache

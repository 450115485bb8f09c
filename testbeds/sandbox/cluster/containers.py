"""One container of a pod: pulled, started, probed, restarted and stopped, with its state as the kubelet reports it."""

import asyncio
import contextlib
import shlex
import signal
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Protocol

import httpx2
import psutil

from testbeds.sandbox.cluster import probes
from testbeds.sandbox.cluster.environment import ConfigError, container_environment
from testbeds.sandbox.cluster.forks import Forks
from testbeds.sandbox.cluster.images import InvalidImageNameError, PulledImage, PullError, pull
from testbeds.sandbox.cluster.nodes import architecture, quantity
from testbeds.sandbox.cluster.objects import Json, timestamp
from testbeds.sandbox.cluster.programs import Program, has_program, own_program, unpack
from testbeds.sandbox.cluster.world import World

# Kubernetes's delays are ten times as long (10 s to 5 minutes). After RESET seconds of running they begin anew.
FIRST_BACK_OFF, LONGEST_BACK_OFF, RESET = 1.0, 30.0, 60.0
_MEMORY_PERIOD = 0.2
_MESSAGE_BYTES = 2048


class Owner(Protocol):
    """The pod as its containers see it."""

    @property
    def pod(self) -> Json: ...

    @property
    def address(self) -> str: ...

    @property
    def folder(self) -> Path: ...

    def publish(self) -> None: ...


class Container:
    def __init__(self, world: World, forks: Forks, client: httpx2.AsyncClient, owner: Owner, spec: Json) -> None:
        self._world, self._forks, self._client, self._owner, self._spec = world, forks, client, owner, spec
        self._key = ""
        self._killed_as: str | None = None
        self._stopping = False
        self.status: Json = {
            "name": spec["name"],
            "image": spec["image"],
            "imageID": "",
            "ready": False,
            "started": False,
            "restartCount": 0,
            "state": {"waiting": {"reason": "ContainerCreating"}},
            "lastState": {},
        }

    async def run(self) -> None:
        """Keep the container running until `stop`."""
        image = await self._pulled()
        back_off = 0.0
        while not self._stopping:
            ran = await self._run_once(image)
            if self._stopping:
                return
            back_off = 0.0 if ran > RESET else back_off
            self.status["lastState"] = self.status["state"]
            if back_off:
                name, pod = self._spec["name"], self._owner.pod["metadata"]
                which = f"{pod['name']}_{pod['namespace']}({pod['uid']})"
                self._wait("CrashLoopBackOff", f"back-off {back_off:g}s restarting failed container={name} pod={which}")
                self._event("Warning", "BackOff", f"Back-off restarting failed container {name} in pod {which}")
                await asyncio.sleep(back_off)
            back_off = min(2 * back_off, LONGEST_BACK_OFF) or FIRST_BACK_OFF
            self.status["restartCount"] += 1

    async def stop(self, grace: float) -> None:
        """Run the preStop hook, send SIGTERM, and SIGKILL if the process still runs after `grace` seconds in total."""
        until = time.monotonic() + grace
        self._stopping = True
        if "running" not in self.status["state"]:
            self._forks.signal(self._key, signal.SIGKILL)  # a process that is just being started
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._pre_stop(), grace)
        await self._terminate(until)

    def log_path(self, *, previous: bool) -> Path:
        """Return the file with the log of the present (or previous) process; it may be missing."""
        return self._owner.folder / f"{self._spec['name']}.{self.status['restartCount'] - previous}.log"

    async def _pulled(self) -> PulledImage:
        name, wait = self._spec["image"], FIRST_BACK_OFF
        self._event("Normal", "Pulling", f'Pulling image "{name}"')
        while True:
            try:
                while self._world.faults.stall_pulls:
                    await asyncio.sleep(0.1)
                image = await pull(self._client, self._world.settings.oci_mirrors, name, architecture())
                if self._runs(image):
                    await unpack(self._client, image, self._root)
            except (InvalidImageNameError, PullError) as error:
                short = "ErrImagePull" if isinstance(error, PullError) else "InvalidImageName"
                self._event("Warning", "Failed", f'Failed to pull image "{name}": {error}')
                self._event("Warning", "Failed", f"Error: {short}")
                self._wait(short, str(error))
                await asyncio.sleep(wait / 2)
                if isinstance(error, PullError):
                    self._wait("ImagePullBackOff", f'Back-off pulling image "{name}": ErrImagePull: {error}')
                    self._event("Normal", "BackOff", f'Back-off pulling image "{name}"')
                await asyncio.sleep(wait / 2)
                wait = min(2 * wait, LONGEST_BACK_OFF)
            else:
                self._event("Normal", "Pulled", f'Successfully pulled image "{name}"')
                self.status["imageID"] = image.image_id
                return image

    async def _run_once(self, image: PulledImage) -> float:
        """Run one process to its end, and return for how many seconds it ran."""
        env = await self._environment(image)
        log = self.log_path(previous=False)
        self._key = f"{self._owner.pod['metadata']['uid']}/{self._spec['name']}/{self.status['restartCount']}"
        self._killed_as = None
        if image.architecture != architecture():
            # The node cannot run the program, and the log has one line that says so.
            log.write_text(f"exec {self._spec['name']}: exec format error\n")
            self._end(255, time.time())
            return 0.0
        program = self._program(image, env)
        pid = await self._forks.start(self._key, program.argv, program.environment, log, program.folder)
        started = time.time()
        self.status["state"] = {"running": {"startedAt": timestamp(started)}}
        self._owner.publish()
        self._event("Normal", "Started", f"Started container {self._spec['name']}")
        watchers = [asyncio.create_task(self._watch_memory(pid)), asyncio.create_task(self._probe())]
        try:
            code = await self._ended(watchers)
        finally:
            for watcher in watchers:
                watcher.cancel()
        self._end(code, started)
        return time.time() - started

    def _program(self, image: PulledImage, environment: Mapping[str, str]) -> Program:
        if self._runs(image):
            return own_program(image, environment, self._root)
        return Program(self._world.settings.pod_command, environment, self._owner.folder)

    def _runs(self, image: PulledImage) -> bool:
        """Whether the container runs the image's own program."""
        return not self._world.settings.pod_command and has_program(image)

    @property
    def _root(self) -> Path:
        return self._owner.folder / f"{self._spec['name']}.root"

    async def _ended(self, watchers: "list[asyncio.Task[None]]") -> int:
        """Wait for the process's exit code; an exception of a watcher is passed on."""
        end = asyncio.create_task(self._forks.ended(self._key))
        waiting: set[asyncio.Task[None] | asyncio.Task[int]] = {end, *watchers}
        while not end.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        return end.result()

    def _end(self, code: int, started: float) -> None:
        reason = self._killed_as or ("Completed" if code == 0 else "Error")
        terminated: Json = {"exitCode": code, "reason": reason, "startedAt": timestamp(started)}
        terminated |= {"finishedAt": timestamp(), "containerID": f"containerd://{self._key}"}
        if code and self._spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            with contextlib.suppress(FileNotFoundError):
                tail = self.log_path(previous=False).read_bytes()[-_MESSAGE_BYTES:]
                terminated["message"] = tail.decode(errors="replace")
        self.status |= {"state": {"terminated": terminated}, "ready": False, "started": False}
        self._owner.publish()
        name = self._owner.pod["metadata"]["name"]
        self._world.log(f"pod {name}", f"container {self._spec['name']} ended: {reason}, exit code {code}")

    async def _environment(self, image: PulledImage) -> dict[str, str]:
        while True:
            try:
                return container_environment(self._world, self._owner.pod, self._spec, image, self._owner.folder)
            except ConfigError as error:
                self._wait("CreateContainerConfigError", str(error))
                self._event("Warning", "Failed", f"Error: {error}")
                await asyncio.sleep(FIRST_BACK_OFF)

    async def _probe(self) -> None:
        """Probe the process until it ends: the startup probe first, then readiness and liveness side by side."""
        if "startupProbe" in self._spec and not await self._startup():
            return
        self.status |= {"started": True, "ready": "readinessProbe" not in self._spec}
        self._owner.publish()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._readiness())
            group.create_task(self._liveness())

    async def _startup(self) -> bool:
        async for success in self._outcomes("startupProbe", "Startup"):
            if not success:
                await self._restart("startup")
            return success
        return False

    async def _readiness(self) -> None:
        if "readinessProbe" in self._spec:
            async for success in self._outcomes("readinessProbe", "Readiness"):
                if self.status["ready"] != success:
                    self.status["ready"] = success
                    self._owner.publish()

    async def _liveness(self) -> None:
        if "livenessProbe" in self._spec:
            async for success in self._outcomes("livenessProbe", "Liveness"):
                if not success:
                    await self._restart("liveness")
                    return

    def _outcomes(self, field: str, word: str) -> AsyncIterator[bool]:
        probe = self._spec[field]

        def failed(reason: str) -> None:
            self._event("Warning", "Unhealthy", f"{word} probe failed: {reason}")

        async def ask() -> str | None:
            return await probes.check(self._client, probe, self._spec, self._owner.address)

        return probes.outcomes(probe, ask, failed)

    async def _restart(self, probe: str) -> None:
        name = self._spec["name"]
        self._event("Normal", "Killing", f"Container {name} failed {probe} probe, will be restarted")
        grace = self._owner.pod["spec"].get("terminationGracePeriodSeconds", 30)
        await self._terminate(time.monotonic() + grace)

    async def _terminate(self, until: float) -> None:
        self._forks.signal(self._key, signal.SIGTERM)
        try:
            await asyncio.wait_for(self._forks.ended(self._key), max(until - time.monotonic(), 0.1))
        except TimeoutError:
            self._forks.signal(self._key, signal.SIGKILL)
            await self._forks.ended(self._key)

    async def _pre_stop(self) -> None:
        hook = self._spec.get("lifecycle", {}).get("preStop")
        if hook is None:
            return
        seconds = hook_seconds(hook)
        if seconds is None:
            self._event("Warning", "FailedPreStopHook", "the sandbox plays preStop hooks that sleep, and no others")
        else:
            await asyncio.sleep(seconds)

    async def _watch_memory(self, pid: int) -> None:
        """Kill the process when its memory goes above the limit, as the kernel does for a container."""
        limit = quantity(self._spec.get("resources", {}).get("limits", {}).get("memory", "1024Ti"))
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended before anyone looks
            process = psutil.Process(pid)
            while process.memory_info().rss <= limit:
                await asyncio.sleep(_MEMORY_PERIOD)
            self._killed_as = "OOMKilled"
            self._forks.signal(self._key, signal.SIGKILL)

    def _wait(self, reason: str, message: str) -> None:
        self.status["state"] = {"waiting": {"reason": reason, "message": message}}
        self._owner.publish()

    def _event(self, kind: str, reason: str, message: str) -> None:
        self._world.event(self._owner.pod, kind, reason, message)


def hook_seconds(hook: Json) -> float | None:
    """Return how long a preStop hook sleeps (`sleep: {seconds: 5}`, or `sleep 5`, in a shell or not); else None."""
    if "sleep" in hook:
        return float(hook["sleep"]["seconds"])
    command = hook.get("exec", {}).get("command", [])
    if len(command) == 3 and command[0].rpartition("/")[2] in ("sh", "bash") and command[1] == "-c":
        command = shlex.split(command[2])
    if len(command) == 2 and command[0].rpartition("/")[2] == "sleep" and command[1].replace(".", "", 1).isdigit():
        return float(command[1])
    return None

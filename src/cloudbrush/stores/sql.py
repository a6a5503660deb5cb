"""The record stores over SQL: one code path for SQLite and PostgreSQL, SQLAlchemy Core."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.endpoint import Endpoint
from cloudbrush.domain.errors import Conflict, IdempotencyMismatch, NotFound, Stale
from cloudbrush.domain.job import EventKind, Job, JobEvent, JobList, JobState
from cloudbrush.stores import tables as t
from cloudbrush.stores.base import AssetSource, Choose, Happening, IdempotencyKey, JobFilter
from cloudbrush.stores.database import Database, insert_missing

OWNERS_PER_CLAIM = 16  # how far down the line a claim looks for a warm checkpoint


class SqlJobs:
    """`stores.base.Jobs` over SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, job: Job, happening: Happening, idempotency: IdempotencyKey | None = None) -> Job:
        """See `Jobs.add`."""
        try:
            with self._db.writing() as tx:
                if idempotency and (earlier := _earlier_job(tx, job.owner, idempotency)):
                    return earlier
                _insert_job(tx, job)
                _append_event(tx, job.id, happening, job.created_at)
                if idempotency:
                    tx.execute(insert(t.idempotency_keys).values(_key_row(job, idempotency)))
        except IntegrityError:
            # Two databases' writers may race for one key: whoever lost finds the winner's job.
            if idempotency is None:
                raise
            earlier = SqlRequests(self._db).earlier(job.owner, idempotency)
            if earlier is None:
                raise
            return earlier
        return job

    def get(self, job_id: str) -> Job:
        """See `Jobs.get`."""
        with self._db.reading() as tx:
            row = tx.execute(select(t.jobs).where(t.jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise _no_job(job_id)
        return _job(row)

    def find(self, which: JobFilter, limit: int, cursor: str | None = None) -> JobList:
        """See `Jobs.find`. Ids are time-ordered, so they are the keyset."""
        query = jobs_query(which, limit + 1, cursor)
        with self._db.reading() as tx:
            found = [_job(row) for row in tx.execute(query)]
        more = len(found) > limit
        return JobList(jobs=tuple(found[:limit]), cursor=found[limit - 1].id if more else None)

    def change(self, job: Job, *happenings: Happening, at: datetime) -> Job:
        """See `Jobs.change`."""
        with self._db.writing() as tx:
            return _change_job(tx, job, *happenings, at=at)

    def delete(self, job_id: str) -> None:
        """See `Jobs.delete`. Events and keys go with the job."""
        with self._db.writing() as tx:
            tx.execute(delete(t.jobs).where(t.jobs.c.id == job_id))


class SqlRequests:
    """`stores.base.Requests` over SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def earlier(self, owner: str, idempotency: IdempotencyKey) -> Job | None:
        """See `Requests.earlier`."""
        with self._db.reading() as tx:
            return _earlier_job(tx, owner, idempotency)


class SqlEvents:
    """`stores.base.Events` over SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def after(self, job_id: str, seq: int) -> list[JobEvent]:
        """See `Events.after`."""
        e = t.job_events.c
        query = select(t.job_events).where(e.job_id == job_id, e.seq > seq).order_by(e.seq)
        with self._db.reading() as tx:
            return [JobEvent.model_validate(row._asdict()) for row in tx.execute(query)]

    def append(self, job_id: str, epoch: int, happening: Happening, at: datetime) -> bool:
        """See `Events.append`."""
        with self._db.writing() as tx:
            if not _attempt_counts(tx, job_id, epoch):
                return False
            _append_event(tx, job_id, happening, at)
            return True


class SqlQueue:
    """`stores.base.Queue` over SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def claim(self, endpoint: str, now: datetime, lease_until: datetime, choose: Choose) -> Job | None:
        """See `Queue.claim`."""
        taken: list[str] = []
        with self._db.writing() as tx:
            while heads := [_job(row) for row in tx.execute(heads_query(endpoint, taken))]:
                chosen = choose(heads)
                if chosen is None:
                    return None
                row = tx.execute(lock_query(chosen)).one_or_none()
                if row is None:  # another control plane is just claiming it
                    taken.append(chosen.id)
                    continue
                _take_turn(tx, endpoint, chosen.owner)
                claimed = _job(row).claimed(now, lease_until)
                return _change_job(tx, claimed, (EventKind.STARTED, {"attempt": claimed.epoch}), at=now)
        return None

    def renew(self, job_id: str, epoch: int, lease_until: datetime) -> bool:
        """See `Queue.renew`. Keeps the version: a renewal must not make a result stale."""
        return self._note(job_id, epoch, lease_until=lease_until)

    def accept(self, job_id: str, epoch: int, handle: str) -> bool:
        """See `Queue.accept`. Keeps the version, as `renew` does."""
        return self._note(job_id, epoch, handle=handle)

    def _note(self, job_id: str, epoch: int, **values: Any) -> bool:
        attempt = (t.jobs.c.id == job_id, t.jobs.c.epoch == epoch, t.jobs.c.state == JobState.RUNNING)
        with self._db.writing() as tx:
            return tx.execute(update(t.jobs).where(*attempt).values(values)).rowcount == 1

    def running(self) -> list[Job]:
        """See `Queue.running`."""
        with self._db.reading() as tx:
            return [_job(row) for row in tx.execute(select(t.jobs).where(t.jobs.c.state == JobState.RUNNING))]

    def stranded(self) -> list[Job]:
        """See `Queue.stranded`."""
        with self._db.reading() as tx:
            return [_job(row) for row in tx.execute(stranded_query())]

    def overdue(self, now: datetime, queued_before: datetime) -> list[Job]:
        """See `Queue.overdue`."""
        with self._db.reading() as tx:
            return [_job(row) for query in overdue_queries(now, queued_before) for row in tx.execute(query)]


class SqlEndpoints:
    """`stores.base.Endpoints` over SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, endpoint: Endpoint) -> Endpoint:
        """See `Endpoints.add`."""
        try:
            with self._db.writing() as tx:
                tx.execute(insert(t.endpoints).values(_endpoint_row(endpoint)))
        except IntegrityError as error:
            raise Conflict(
                f"there is an endpoint {endpoint.name!r} already",
                field="name",
                hint="Choose another name or delete that endpoint first.",
            ) from error
        return endpoint

    def get(self, name: str) -> Endpoint:
        """See `Endpoints.get`."""
        with self._db.reading() as tx:
            row = tx.execute(select(t.endpoints).where(t.endpoints.c.name == name)).one_or_none()
        if row is None:
            raise _no_endpoint(name)
        return _endpoint(row)

    def all(self) -> list[Endpoint]:
        """See `Endpoints.all`."""
        query = select(t.endpoints).order_by(t.endpoints.c.created_at.desc(), t.endpoints.c.name)
        with self._db.reading() as tx:
            return [_endpoint(row) for row in tx.execute(query)]

    def change(self, endpoint: Endpoint) -> Endpoint:
        """See `Endpoints.change`."""
        e = t.endpoints.c
        changed = endpoint.model_copy(update={"version": endpoint.version + 1})
        with self._db.writing() as tx:
            result = tx.execute(
                update(t.endpoints)
                .where(e.name == endpoint.name, e.version == endpoint.version)
                .values(_endpoint_row(changed))
            )
            if result.rowcount == 0:
                exists = tx.execute(select(e.name).where(e.name == endpoint.name)).one_or_none()
                raise Stale(f"endpoint {endpoint.name!r} changed") if exists else _no_endpoint(endpoint.name)
        return changed

    def delete(self, name: str) -> None:
        """See `Endpoints.delete`."""
        with self._db.writing() as tx:
            tx.execute(delete(t.endpoints).where(t.endpoints.c.name == name))


class SqlAssets:
    """`stores.base.Assets` over SQL."""

    def __init__(self, database: Database, place: str = "") -> None:
        """`place` tells whose catalogue it is, where several share a database."""
        self._db = database
        self._place = place[-255:]

    def put(self, source: AssetSource) -> None:
        """See `Assets.put`."""
        path = None if source.path is None else str(source.path)
        row = {**source.asset.model_dump(), "place": self._place, "path": path, "modified": source.modified}
        with self._db.writing() as tx:
            tx.execute(delete(t.assets).where(*self._is(source.asset.kind, source.asset.name)))
            tx.execute(insert(t.assets).values(row))

    def get(self, kind: AssetKind, name: str) -> ModelAsset:
        """See `Assets.get`."""
        with self._db.reading() as tx:
            row = tx.execute(select(t.assets).where(*self._is(kind, name))).one_or_none()
        if row is None:
            raise NotFound(f"there is no {kind} called {name!r}")
        return ModelAsset.model_validate(row._asdict())

    def all(self) -> list[AssetSource]:
        """See `Assets.all`. Sorted here: databases have orders of their own."""
        with self._db.reading() as tx:
            rows = tx.execute(select(t.assets).where(t.assets.c.place == self._place)).all()
        return sorted(map(_source, rows), key=lambda source: (source.asset.kind, source.asset.name))

    def delete(self, kind: AssetKind, name: str) -> None:
        """See `Assets.delete`."""
        with self._db.writing() as tx:
            tx.execute(delete(t.assets).where(*self._is(kind, name)))

    def _is(self, kind: AssetKind, name: str) -> tuple[sa.ColumnElement[bool], ...]:
        a = t.assets.c
        return a.place == self._place, a.kind == kind, a.name == name


def jobs_query(which: JobFilter, limit: int, cursor: str | None) -> sa.Select[Any]:
    """The statement behind `Jobs.find`; apart, so that a test can read its query plan."""
    j = t.jobs.c
    query = select(t.jobs).order_by(j.id.desc()).limit(limit)
    if cursor is not None:
        query = query.where(j.id < cursor)
    for column, wanted in (
        (j.owner, which.owner),
        (j.task, which.task),
        (j.endpoint, which.endpoint),
        (j.checkpoint, which.checkpoint),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if which.states is not None:
        query = query.where(j.state.in_(sorted(which.states)))
    if which.created_from is not None:
        query = query.where(j.created_at >= which.created_from)
    if which.created_before is not None:
        query = query.where(j.created_at < which.created_before)
    return query


def overdue_queries(now: datetime, queued_before: datetime) -> tuple[sa.Select[Any], sa.Select[Any]]:
    """Attempts whose lease ran out, and jobs that waited too long."""
    j = t.jobs.c
    return (
        select(t.jobs).where(j.state == JobState.RUNNING, j.lease_until < now),
        select(t.jobs).where(j.state == JobState.QUEUED, j.created_at < queued_before),
    )


def stranded_query() -> sa.Select[Any]:
    """Unfinished jobs whose endpoint has no row."""
    exists = select(t.endpoints.c.name).where(t.endpoints.c.name == t.jobs.c.endpoint).exists()
    unfinished = t.jobs.c.state.in_([JobState.QUEUED, JobState.RUNNING])
    return select(t.jobs).where(unfinished, ~exists)


def heads_query(endpoint: str, without: Sequence[str] = ()) -> sa.Select[Any]:
    """Each owner's oldest queued job at the endpoint, owners by their last turn: one index look per owner."""
    mine = t.jobs.alias("mine")
    place = (mine.c.endpoint == endpoint, mine.c.state == JobState.QUEUED, mine.c.owner == t.turns.c.owner)
    oldest = (
        select(mine.c.id)
        .where(*place, *([mine.c.id.not_in(without)] if without else []))
        .order_by(mine.c.id)
        .limit(1)
        .correlate(t.turns)
        .scalar_subquery()
    )
    return (
        select(t.jobs)
        .select_from(t.turns)
        .join(t.jobs, t.jobs.c.id == oldest)
        .where(t.turns.c.endpoint == endpoint)
        .order_by(t.turns.c.served)
        .limit(OWNERS_PER_CLAIM)
    )


def lock_query(job: Job) -> sa.Select[Any]:
    """The job, for this transaction alone; nothing while another one has it, or when it changed since."""
    unchanged = (t.jobs.c.id == job.id, t.jobs.c.version == job.version)
    return select(t.jobs).where(*unchanged).with_for_update(skip_locked=True)  # SQLite has one writer anyway


def _job(row: Row[Any]) -> Job:
    fields = row._asdict()
    del fields["task"], fields["checkpoint"]  # index columns, facts of the generation
    return Job.model_validate(fields)


def _job_row(job: Job) -> dict[str, Any]:
    record = job.model_dump(mode="json", include={"generation", "lost_attempts", "problem", "images"})
    columns = job.model_dump(exclude=set(record))
    columns["handle"] = job.handle  # which no dump shows
    return {**columns, **record, "task": job.generation.task, "checkpoint": job.generation.checkpoint or ""}


def _insert_job(tx: Connection, job: Job) -> None:
    tx.execute(insert(t.jobs).values(_job_row(job)))
    insert_missing(tx, t.turns, {"endpoint": job.endpoint, "owner": job.owner, "served": 0})


def _change_job(tx: Connection, job: Job, *happenings: Happening, at: datetime) -> Job:
    j = t.jobs.c
    changed = job.model_copy(update={"version": job.version + 1})
    result = tx.execute(
        update(t.jobs).where(j.id == job.id, j.version == job.version).values(_job_row(changed))
    )
    if result.rowcount == 0:
        exists = tx.execute(select(j.id).where(j.id == job.id)).one_or_none()
        raise Stale(f"job {job.id} changed") if exists else _no_job(job.id)
    for happening in happenings:
        _append_event(tx, job.id, happening, at)
    return changed


def _append_event(tx: Connection, job_id: str, happening: Happening, at: datetime) -> None:
    e = t.job_events.c
    kind, data = happening
    last = tx.execute(select(sa.func.max(e.seq)).where(e.job_id == job_id)).scalar_one()
    tx.execute(delete(t.job_events).where(e.job_id == job_id, e.kind == EventKind.PROGRESS))
    tx.execute(
        insert(t.job_events).values(job_id=job_id, seq=(last or 0) + 1, kind=kind.value, at=at, data=data)
    )


def _attempt_counts(tx: Connection, job_id: str, epoch: int) -> bool:
    j = t.jobs.c
    running = select(j.id).where(j.id == job_id, j.epoch == epoch, j.state == JobState.RUNNING)
    return tx.execute(running.with_for_update()).one_or_none() is not None


def _take_turn(tx: Connection, endpoint: str, owner: str) -> None:
    u = t.turns.c
    latest = tx.execute(select(sa.func.max(u.served)).where(u.endpoint == endpoint)).scalar_one()
    place = (u.endpoint == endpoint, u.owner == owner)
    tx.execute(update(t.turns).where(*place).values(served=(latest or 0) + 1))


def _earlier_job(tx: Connection, owner: str, idempotency: IdempotencyKey) -> Job | None:
    k = t.idempotency_keys.c
    used = tx.execute(
        select(k.digest, k.job_id).where(k.owner == owner, k.key == idempotency.key)
    ).one_or_none()
    if used is None:
        return None
    if used.digest != idempotency.digest:
        raise IdempotencyMismatch(
            "this Idempotency-Key was used before with a different request",
            field="Idempotency-Key",
            hint="Use a new key for a new request.",
        )
    return _job(tx.execute(select(t.jobs).where(t.jobs.c.id == used.job_id)).one())


def _key_row(job: Job, idempotency: IdempotencyKey) -> dict[str, Any]:
    return {
        "owner": job.owner,
        "key": idempotency.key,
        "digest": idempotency.digest,
        "job_id": job.id,
        "created_at": job.created_at,
    }


def _endpoint(row: Row[Any]) -> Endpoint:
    fields = row._asdict()
    del fields["name"]  # a fact of the spec
    return Endpoint.model_validate(fields)


def _endpoint_row(endpoint: Endpoint) -> dict[str, Any]:
    return {
        **endpoint.model_dump(exclude={"spec"}),
        "spec": endpoint.spec.model_dump(mode="json"),
        "name": endpoint.name,
    }


def _source(row: Row[Any]) -> AssetSource:
    asset = ModelAsset.model_validate(row._asdict())
    return AssetSource(asset, None if row.path is None else Path(row.path), row.modified)


def _no_job(job_id: str) -> NotFound:
    return NotFound(f"there is no job {job_id}", field="id")


def _no_endpoint(name: str) -> NotFound:
    return NotFound(f"there is no endpoint {name!r}", field="endpoint")

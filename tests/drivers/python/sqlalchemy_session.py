"""SQLAlchemy's ORM, over psycopg and over asyncpg."""

import asyncio
import hashlib

import sqlalchemy as sa
from sqlalchemy import ForeignKey, String, func, select
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

from transcript import arguments, say

dsn, scope = arguments()


class Sample(DeclarativeBase):
    pass


class User(Sample):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    email: Mapped[str]
    name: Mapped[str]
    plan_id: Mapped[int]
    jobs: Mapped[list["Job"]] = relationship(back_populates="user", order_by="Job.id")


class Job(Sample):
    """With the shard key in its identity, so that what the unit of work sends names it."""

    __tablename__ = "jobs"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=True)
    name: Mapped[str]
    schedule: Mapped[str]
    status: Mapped[str] = mapped_column(String(20), server_default="pending")
    user: Mapped[User] = relationship(back_populates="jobs")


class Own(DeclarativeBase):
    pass


class Author(Own):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    about: Mapped[dict] = mapped_column(JSONB, default=dict)
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Own):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    title: Mapped[str] = mapped_column(sa.Text, index=True)
    kind: Mapped[str] = mapped_column(sa.Enum("novel", "essay", name="book_kind"), default="novel")
    author: Mapped[Author] = relationship(back_populates="books")


def keyed(session):
    user = session.get(User, 7)
    say("get", user.id, user.email, user.name)
    say("lazy", [(job.id, job.name) for job in user.jobs])
    job = session.scalars(select(Job).where(Job.user_id == 7).order_by(Job.id)).first()
    say("many to one", job.user is user)
    session.commit()
    for loading in (selectinload, joinedload):
        query = select(User).where(User.id == 12).options(loading(User.jobs))
        found = session.execute(query).unique().scalar_one()
        say(loading.__name__, found.id, [job.id for job in found.jobs])
        session.commit()
    # The unit of work: inserts that give back ids, an update, deletes.
    session.add_all([Job(user_id=7, name=f"added {n}", schedule="* * * * *") for n in range(20)])
    session.flush()
    added = session.scalars(select(Job).where(Job.user_id == 7, Job.name.like("added%")).order_by(Job.id)).all()
    say("added", len(added), {job.status for job in added})
    added[0].status = "running"
    session.commit()
    say("updated", added[0].status)
    for job in added:
        session.delete(job)
    session.commit()
    count = select(func.count()).select_from(Job).where(Job.user_id == 7)
    say("count", session.scalar(count))
    # In bulk, with ON CONFLICT.
    values = [{"id": 7, "email": "other@example.com", "name": "Other", "plan_id": 1}]
    upsert = insert(User).values(values)
    upsert = upsert.on_conflict_do_update(index_elements=[User.id], set_={"name": upsert.excluded.name})
    say("upsert", session.execute(upsert.returning(User.id, User.name)).one())
    session.rollback()
    try:
        session.execute(sa.insert(User), values)
    except sa.exc.IntegrityError as error:
        say("conflict", error.orig.sqlstate)
        session.rollback()
    with session.begin_nested():
        session.execute(sa.update(User).where(User.id == 7).values(name="nested"))
    say("nested", session.scalar(select(User.name).where(User.id == 7)))
    session.rollback()
    say("rolled back", session.scalar(select(User.name).where(User.id == 7)))
    session.commit()
    streamed = session.execute(select(Job.id).where(Job.user_id == 5).execution_options(yield_per=2))
    say("streamed", [list(part) for part in streamed.scalars().partitions()])
    session.commit()


def whole(session):
    connection = session.connection()
    Own.metadata.create_all(connection)
    session.commit()
    session.add_all(
        Author(name=f"author {n}", about={"n": n}, books=[Book(title=f"book {n}.{m}") for m in range(3)])
        for n in range(30)
    )
    session.commit()
    authors = session.scalars(select(Author).options(selectinload(Author.books)).order_by(Author.id)).all()
    say("loaded", len(authors), sum(len(author.books) for author in authors), authors[3].about)
    query = (
        select(Author.name, func.count(Book.id))
        .join(Author.books)
        .where(Author.about["n"].astext.cast(sa.Integer) > 25)
        .group_by(Author.name)
        .order_by(Author.name)
    )
    say("grouped", session.execute(query).all())
    session.delete(authors[0])
    authors[1].books.pop()
    session.commit()
    say("deleted", session.scalar(select(func.count()).select_from(Book)))
    bulk = [{"author_id": authors[2].id, "title": f"bulk {n}", "kind": "essay"} for n in range(3000)]
    returned = session.scalars(sa.insert(Book).returning(Book.id), bulk).all()
    say("bulk", len(returned))
    session.execute(sa.update(Book).where(Book.kind == "essay").values(title=Book.title + "!"))
    titles = session.scalars(select(Book.title).where(Book.kind == "essay").order_by(Book.title)).all()
    say("titles", hashlib.sha256(repr(titles).encode()).hexdigest()[:16])
    session.commit()
    described = reflected(session.connection())
    say("reflected", described)
    session.commit()
    # The tables are used by statements that were prepared before they change.
    session.execute(sa.text("ALTER TABLE authors ADD COLUMN born int DEFAULT 1900"))
    session.commit()
    say("altered", session.execute(sa.text("SELECT max(born) FROM authors")).scalar())
    Own.metadata.drop_all(session.connection())
    session.commit()


def reflected(connection):
    inspector = sa.inspect(connection)
    book = inspector.get_columns("books")
    return (
        sorted(inspector.get_table_names()),
        [(column["name"], str(column["type"]), column["nullable"]) for column in book],
        inspector.get_indexes("books"),
        inspector.get_foreign_keys("books")[0]["constrained_columns"],
        inspector.get_unique_constraints("authors"),
        [enum["labels"] for enum in inspector.get_enums()],
    )


# `INSERT … SELECT … FROM (VALUES …)` hides the shard key: one statement a row instead.
options = {"pool_size": 5, "use_insertmanyvalues": scope == "whole"}


def synchronous(part):
    engine = sa.create_engine(dsn.replace("postgres://", "postgresql+psycopg://"), **options)
    say("version", engine.connect().dialect.server_version_info)
    with Session(engine) as session:
        part(session)
    engine.dispose()


async def asynchronous(part):
    engine = create_async_engine(dsn.replace("postgres://", "postgresql+asyncpg://"), **options)
    async with AsyncSession(engine) as session:
        await session.run_sync(part)
    if part is keyed:

        async def one(user):
            async with AsyncSession(engine) as mine:
                return (await mine.get(User, user)).id

        say("together", await asyncio.gather(*(one(user) for user in range(1, 40))))
    await engine.dispose()


part = keyed if scope == "keyed" else whole
synchronous(part)
asyncio.run(asynchronous(part))

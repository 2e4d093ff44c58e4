"""Django: migrations and the ORM on one shard; on any number of them the ORM on tables that are there."""

import os
import sys
import tempfile
from pathlib import Path
from threading import Thread

from transcript import arguments, say

dsn, scope = arguments()
os.environ["MATRIX_DSN"] = dsn
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
os.environ["MATRIX_BINDING"] = "server" if sys.argv[3:] == ["server"] else "client"
sys.path.insert(0, str(Path(__file__).parent / "django_project"))

import django  # noqa: E402

# Migrations are made here and not kept: every run begins where a new project does.
migrations = Path(tempfile.mkdtemp()) / "shop_migrations"
migrations.mkdir()
(migrations / "__init__.py").touch()
sys.path.insert(0, str(migrations.parent))

from django.conf import settings  # noqa: E402

settings.MIGRATION_MODULES = {"shop": "shop_migrations"}
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import IntegrityError, connection, models, transaction  # noqa: E402
from django.db.models import Count, F, Sum  # noqa: E402
from shop.models import Job, Line, Order, Product, SampleUser  # noqa: E402


def keyed():
    user = SampleUser.objects.get(id=7)
    say("get", user.email, user.name, user.created_at)
    say("jobs", list(Job.objects.filter(user_id=7).order_by("id").values_list("id", "name")))
    say("related", [job.name for job in user.jobs.order_by("id")], user.jobs.filter(status="done").count())
    joined = Job.objects.filter(user_id=7, user__id=7).select_related("user").order_by("id")
    say("joined", [(job.id, job.user.email) for job in joined])
    prefetched = SampleUser.objects.filter(id=12).prefetch_related("jobs").get()
    say("prefetched", sorted(job.id for job in prefetched.jobs.all()))
    with transaction.atomic():
        job = Job.objects.create(user_id=7, name="made", schedule="* * * * *")
        for number in range(25):
            Job(user_id=7, name=f"bulk {number}", schedule="* * * * *").save(force_insert=True)
        try:
            with transaction.atomic():
                SampleUser.objects.filter(id=7).update(name="inner")
                raise KeyError
        except KeyError:
            pass
        locked = SampleUser.objects.select_for_update().get(id=7)
        say("locked", locked.name, Job.objects.filter(user_id=7).count())
    say("updated", Job.objects.filter(user_id=7, id=job.id).update(status="done"))
    say("deleted", Job.objects.filter(user_id=7, name__startswith="bulk")._raw_delete("default"))
    say("gone", Job.objects.filter(user_id=7, id=job.id)._raw_delete("default"))
    try:
        with transaction.atomic():
            SampleUser.objects.create(id=7, email="x", name="y", created_at=user.created_at)
    except IntegrityError as error:
        say("conflict", str(error).splitlines()[0])
    say("iterated", [j.id for j in Job.objects.filter(user_id=5).order_by("id").iterator(chunk_size=2)])
    say("aggregate", Job.objects.filter(user_id=5).aggregate(Count("id"), models.Max("id")))
    say("exists", SampleUser.objects.filter(id=9999).exists(), SampleUser.objects.filter(id=9).exists())


def whole():
    call_command("makemigrations", "shop", verbosity=0)
    call_command("migrate", verbosity=0)
    say("tables", sorted(connection.introspection.table_names()))
    buyer = User.objects.create_user("buyer", password="secret")
    products = Product.objects.bulk_create(
        Product(name=f"product {n}", price=f"{n}.50", tags=["a", f"t{n}"], details={"n": n}) for n in range(200)
    )
    say("keys", len({product.pk for product in products}))
    with transaction.atomic():
        order = Order.objects.create(buyer=buyer)
        Line.objects.bulk_create(Line(order=order, product=p, amount=2) for p in products[:10])
    say("sum", Line.objects.aggregate(total=Sum(F("amount") * F("product__price")))["total"])
    say("json", Product.objects.filter(details__n=7).values_list("name", flat=True).get())
    say("array", Product.objects.filter(tags__contains=["t9"]).get().name)
    got, created = Product.objects.get_or_create(name="product 3", defaults={"price": 1})
    again, updated = Product.objects.update_or_create(name="product 4", defaults={"price": 99})
    say("or create", got.price, created, again.price, updated)
    Product.objects.bulk_update([Product(pk=p.pk, price=1) for p in products[:50]], ["price"])
    say("bulk update", Product.objects.filter(price=1).count())
    try:
        with transaction.atomic():
            Product.objects.create(name="bad", price=-1)
    except IntegrityError as error:
        say("check", str(error).splitlines()[0])
    say("grouped", list(Order.objects.annotate(n=Count("products")).values_list("n", "buyer__username")))
    session = SessionStore()
    session["cart"] = [1, 2]
    session.save()
    say("session", SessionStore(session.session_key)["cart"])
    say("iterator", sum(1 for _ in Product.objects.order_by("id").iterator(chunk_size=50)))
    say("explained", "Scan" in Product.objects.filter(price=5).explain())
    threads = [Thread(target=buy, args=(buyer.pk, products[n].pk)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say("orders", Order.objects.count(), Line.objects.aggregate(Sum("amount"))["amount__sum"])
    # A migration of tables that are in use, and back.
    model = (Path(migrations) / "0002_more.py")
    model.write_text(MIGRATION)
    call_command("migrate", verbosity=0)
    say("altered", [c.name for c in connection.introspection.get_table_description(connection.cursor(), "shop_line")])
    say("lines", Line.objects.filter(amount=2).count())
    call_command("migrate", "shop", "zero", verbosity=0)
    say("left", [name for name in connection.introspection.table_names() if name.startswith("shop")])


def buy(buyer, product):
    for _ in range(5):
        with transaction.atomic():
            order = Order.objects.create(buyer_id=buyer)
            Line.objects.create(order=order, product_id=product)
    connection.close()


MIGRATION = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.AddField("line", "note", models.TextField(default="none")),
        migrations.AlterField("product", "name", models.CharField(max_length=80, unique=True)),
        migrations.RunSQL("UPDATE shop_line SET note = 'migrated'", migrations.RunSQL.noop),
    ]
"""

keyed() if scope == "keyed" else whole()

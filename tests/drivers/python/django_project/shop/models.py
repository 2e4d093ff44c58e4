"""Tables of Django's own making, and the sample's, which Django only uses."""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Product(models.Model):
    name = models.CharField(max_length=50, unique=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    tags = ArrayField(models.CharField(max_length=20), default=list)
    details = models.JSONField(default=dict)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["price"])]
        constraints = [models.CheckConstraint(condition=models.Q(price__gte=0), name="not_negative")]


class Order(models.Model):
    buyer = models.ForeignKey("auth.User", on_delete=models.CASCADE)
    products = models.ManyToManyField(Product, through="Line")


class Line(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE)
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    amount = models.PositiveIntegerField(default=1)


class SampleUser(models.Model):
    id = models.BigIntegerField(primary_key=True)
    email = models.TextField()
    name = models.TextField()
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "users"


class Job(models.Model):
    user = models.ForeignKey(SampleUser, on_delete=models.DO_NOTHING, related_name="jobs")
    name = models.TextField()
    schedule = models.TextField()
    status = models.CharField(max_length=20, default="pending")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        managed = False
        db_table = "jobs"

"""What everybody may read: sales and products."""

from litestar import get

from api import examples, shop
from api.caching import unless_known
from api.docs import Query, doc
from api.routes.common import AnyRequest, headers_of, pages, path_of, query_of, services_of
from api.saleslist import SalePage
from api.wire import Answer
from engine.shapes import Product, PublicSale


@get(
    "/v1/sales/{sale_id:str}",
    opt=doc(
        summary="A sale as a shop shows it",
        tag="shop",
        tagged=True,
        answer=PublicSale,
        example=examples.PUBLIC_SALE,
        codes=("sale_not_found", "sale_unavailable", "overloaded", "unavailable"),
    ),
)
async def get_sale(request: AnyRequest) -> Answer:
    return _unless_known(request, await shop.read_sale(services_of(request), path_of(request, "sale_id")))


@get(
    "/v1/sales",
    opt=doc(
        summary="The sales that have not ended, in the order of their ids",
        tag="shop",
        tagged=True,
        answer=SalePage,
        example={"data": [examples.PUBLIC_SALE], "next_cursor": None},
        query=pages("How many at most."),
        codes=("validation_error", "overloaded", "unavailable"),
    ),
)
async def list_sales(request: AnyRequest) -> Answer:
    return _unless_known(request, await services_of(request).sales.page(query_of(request)))


@get(
    "/v1/products",
    opt=doc(
        summary="Products with their live stock, in the order of their ids",
        tag="shop",
        tagged=True,
        answer=shop.ProductPage,
        example=examples.PRODUCTS,
        query=(
            Query("sale_id", "Only the products of this sale."),
            *pages("How many at most."),
        ),
        codes=("validation_error", "sale_not_found", "sale_unavailable", "overloaded", "unavailable"),
    ),
)
async def list_products(request: AnyRequest) -> Answer:
    return _unless_known(request, await shop.list_products(services_of(request), query_of(request)))


@get(
    "/v1/products/{product_id:str}",
    opt=doc(
        summary="A product with its live stock",
        tag="shop",
        tagged=True,
        answer=Product,
        example=examples.PRODUCT,
        codes=("product_not_found", "sale_unavailable", "overloaded", "unavailable"),
    ),
)
async def get_product(request: AnyRequest) -> Answer:
    return _unless_known(request, await shop.read_product(services_of(request), path_of(request, "product_id")))


def _unless_known(request: AnyRequest, answer: Answer) -> Answer:
    return unless_known(answer, headers_of(request).if_none_match)


ROUTES = [list_sales, get_sale, list_products, get_product]

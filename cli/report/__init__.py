"""`flashsale report`: one page about a sale, for the business."""

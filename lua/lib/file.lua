-- What only a sale file, an adjustment and a rebuild change of a product: they read and write it too.
for _, field in ipairs({'total', 'compare_at', 'loaded'}) do stock_numbers[#stock_numbers + 1] = field end
stock_words[#stock_words + 1] = 'name'

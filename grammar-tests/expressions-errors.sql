a +

a + * b

(a

a)

()

a b

a = b = c

a < b < c

a = b IS NULL

a BETWEEN 1

a BETWEEN 1 OR 2

a IN ()

a IN 1

a IN (1, 2

a LIKE

a LKE 'x'

a LIKE 'x' ESCAPE ''

a LIKE 'x' ESCAPE 'ab'

a LIKE 'x' ESCAPE c

a IS 1

a IS NOT

a IS DISTINCT b

a AND

a ADN b

AND b

NOT

CASE END

CASE WHEN a END

CASE WHEN a THEN b

CASE WHEN a THEN b ELSE END

CAST(a)

CAST(a AS)

CAST(a AS NULL)

CAST(a AS DECIMAL(2))

ARRAY[1

ARRAY[1,]

MAP('a' 1)

MAP('a' = 1)

STRUCT(1 := 2)

STRUCT(a: 1)

f(a

f(a,)

f(,)

f(DISTINCT a)

f(x => x, a)

f(x => )

f((x, 1) => x)

x => x + 1

a[

a[]

a->

a->1

a->*

a.

a.b.c

t.*

a->select

DATE '2020-01-01'

x'00'

a AT TIME ZONE UTC

a AT b

9223372036854775808

-9223372036854775809

1e999

DECIMAL 'x'

DECIMAL 1

'open

`open

a ? b

a ^ 2

größe + 1

a != = b

1 2

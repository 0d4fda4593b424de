a

t.a

`lower`."Mixed"

a + b * c - d / e % f

(a + b) * (c - d) - (e - f)

a || b + c || d

(a || b) || (c || d)

a - (b - c) - d

-a

- -5

-(5)

-(-a)

+a

a - -5

-5[1]

-(5[1])

-x AT TIME ZONE 'UTC'

-(5 AT TIME ZONE 'UTC')

-5 AT TIME ZONE 'UTC'

ts AT TIME ZONE 'Europe/Berlin' AT TIME ZONE 'UTC'

a = 1 OR b <> 2 AND NOT c != 3 OR d < 4 AND e <= 5 AND f > 6 OR g >= 7

(a OR b) AND (c OR (d AND e)) AND ((f AND g) AND h)

NOT (a = b)

NOT NOT a

NOT a = b

(NOT a) = b

(a = b) = c

a BETWEEN 1 AND 2 AND b NOT BETWEEN c + 1 AND d || e

a IN (1, 'two', 3.0) AND b NOT IN (x)

a LIKE '%x' AND b NOT LIKE c || '%' ESCAPE '!'

a LIKE 'x' ESCAPE ''''

a IS NULL AND b IS NOT NULL AND c IS DISTINCT FROM d AND e IS NOT DISTINCT FROM f + 1

(a IS NULL) IS NULL

CASE WHEN a THEN 1 WHEN b = 2 THEN CASE WHEN c THEN 3 END ELSE NULL END

CASE a WHEN 1 THEN 'x' ELSE 'y' END

CAST(a + 1 AS DECIMAL(10, 2))

CAST(a AS ARRAY<STRUCT<b INT, c MAP<STRING, DATE>>>)

CAST(a AS myType)

CAST('2020' AS TIMESTAMP)

ARRAY[1, 2, NULL]

ARRAY[]

MAP('a' := 1, b || 'x' := c + 1)

MAP()

STRUCT(a := 1, `b` := STRUCT(c := 'd'))

STRUCT()

a[1][-1]['k']

s->f->g

t.s->a[0]->`b`

(a + b)->c

ARRAY[1, 2][1]

`array`[1]

array + map + struct

`MAP`(1)

COUNT(*)

f()

ucase(concat(a, 'b'), c)

TRANSFORM(a, x => x + 1)

transform(m, (k, v) => ucase(k), (K, V) => v + y)

REDUCE(a, 0, (s, i) => FILTER(b, (j) => j > s AND i < 3))

f((x, y) => (x) + (y))

DATEADD(DAYS, 1, d)

datesub(day, 1, d)

DATEADD(`DAY`, 1, d)

TIMESTAMPADD(millisecond, -1, ts)

f(MINUTES, x)

f(minute, x)

TIMEADD(hour + 1, 1, t)

DECIMAL '-12.50'

DECIMAL '7'

'a''b'

''

'multi
line -- not a comment'

1.0 + 1. + .5 + 1E3 + 0.1e-2

9223372036854775807 - 2147483648

a /* inside */ + -- to the end
  b

((((a))))

rowtime BETWEEN '2020-01-01' AND 1000

id + key + type + date + time + timestamp + session + if + year

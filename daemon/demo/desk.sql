-- A small shop's customer-service desk. Ids come in the many shapes that they have in real life.

CREATE TABLE users (
    user_id TEXT PRIMARY KEY COLLATE NOCASE,
    name TEXT NOT NULL,
    tier TEXT NOT NULL CHECK (tier IN ('standard', 'silver', 'gold')),
    email TEXT NOT NULL,
    since TEXT NOT NULL,
    chargebacks INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE orders (
    order_id TEXT PRIMARY KEY COLLATE NOCASE,
    user_id TEXT NOT NULL REFERENCES users,
    status TEXT NOT NULL CHECK (status IN ('processing', 'shipped', 'delivered', 'cancelled', 'refunded')),
    carrier TEXT NOT NULL,
    eta TEXT NOT NULL,
    paid REAL NOT NULL
) STRICT;

CREATE TABLE refunds (
    refund_id TEXT PRIMARY KEY,
    order_id TEXT NOT NULL REFERENCES orders,
    amount REAL NOT NULL CHECK (amount > 0),
    idempotency_key TEXT UNIQUE
) STRICT;

CREATE TABLE tickets (
    ticket_id TEXT PRIMARY KEY COLLATE NOCASE,
    user_id TEXT NOT NULL REFERENCES users,
    subject TEXT NOT NULL,
    priority TEXT NOT NULL CHECK (priority IN ('low', 'normal', 'high')),
    status TEXT NOT NULL CHECK (status IN ('open', 'cancelled', 'closed')),
    idempotency_key TEXT UNIQUE
) STRICT;

CREATE TABLE articles (
    title TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    keywords TEXT NOT NULL
) STRICT;

CREATE TABLE services (
    service TEXT PRIMARY KEY COLLATE NOCASE,
    status TEXT NOT NULL CHECK (status IN ('up', 'degraded', 'down')),
    since TEXT NOT NULL
) STRICT;

INSERT INTO users VALUES
    ('U1024', 'Ada Park', 'gold', 'ada.park@example.com', '2019-03-14', 0),
    ('U1031', '周杰', 'silver', 'zhou.jie@example.com', '2025-04-08', 0),
    ('U77', 'Tomás Rivera', 'standard', 'tomas.rivera@example.com', '2025-11-02', 0),
    ('u-77', 'Mei Lin', 'silver', 'mei.lin@example.com', '2022-06-30', 0),
    ('10086', '王伟', 'gold', 'wang.wei@example.com', '2018-01-09', 0),
    ('vip_8', '李娜', 'gold', 'li.na@example.com', '2020-08-21', 1),
    ('U2001', 'Jonas Weber', 'silver', 'jonas.weber@example.com', '2023-02-17', 0),
    ('U2002', '陈静', 'standard', 'chen.jing@example.com', '2026-10-05', 2),
    ('c-3094', 'Fatima Haddad', 'standard', 'fatima.haddad@example.com', '2024-12-24', 0),
    ('88001', '张敏', 'silver', 'zhang.min@example.com', '2021-05-11', 0),
    ('kx9', 'Olu Adeyemi', 'standard', 'olu.adeyemi@example.com', '2026-01-28', 0);

INSERT INTO orders VALUES
    ('A1001', 'U1024', 'shipped', 'DHL', '2026-12-03', 129.90),
    ('A1002', 'U1024', 'delivered', 'DHL', '2026-11-18', 45.00),
    ('A1003', 'U1031', 'processing', 'SF Express', '2026-12-04', 820.00),
    ('A1234', 'U77', 'processing', 'UPS', '2026-12-09', 1250.75),
    ('ORD-20391', 'u-77', 'shipped', 'SF Express', '2026-11-27', 88.50),
    ('ORD-20392', 'u-77', 'cancelled', 'SF Express', '2026-11-20', 19.99),
    ('8830021', '10086', 'delivered', 'SF Express', '2026-11-21', 399.00),
    ('8830022', '10086', 'processing', 'JD Logistics', '2026-12-01', 2199.00),
    ('8830057', 'vip_8', 'shipped', 'JD Logistics', '2026-11-30', 560.00),
    ('B-7', 'U2001', 'delivered', 'Hermes', '2026-11-12', 25.00),
    ('B-8', 'U2001', 'refunded', 'Hermes', '2026-11-10', 99.90),
    ('C5520', 'U2002', 'processing', 'SF Express', '2026-12-05', 4800.00),
    ('Z_300', 'c-3094', 'shipped', 'FedEx', '2026-12-02', 310.25),
    ('77120045', '88001', 'delivered', 'ZTO', '2026-11-19', 66.60),
    ('kx9-1', 'kx9', 'processing', 'UPS', '2026-12-11', 15.00);

INSERT INTO refunds VALUES ('R5001', 'B-8', 99.90, NULL);

INSERT INTO tickets VALUES
    ('T55', 'U1024', 'Parcel left at the wrong door', 'normal', 'open', NULL),
    ('T56', 'U77', 'Invoice without VAT number', 'low', 'open', NULL),
    ('TCK-1009', '10086', '发票抬头错误', 'normal', 'open', NULL),
    ('TCK-1010', 'vip_8', '账户无法登录', 'high', 'open', NULL),
    ('T57', 'U2001', 'Blender makes a noise', 'normal', 'closed', NULL),
    ('T501', 'U1031', '更换送货时间', 'normal', 'open', NULL),
    ('T58', 'kx9', 'Change of delivery address', 'normal', 'cancelled', NULL);

INSERT INTO articles VALUES
    ('Reset your password', 'Open Settings, choose Security and follow the link that we mail you.', 'password reset forgot login 密码 重置 忘记 登录'),
    ('Return an item', 'You can return any item within 30 days; print the label under My orders.', 'return exchange send back 退货 换货 退换'),
    ('Refund times', 'A refund reaches your card within 5 working days.', 'refund money back how long 退款 多久 到账'),
    ('Shipping costs', 'Shipping is free from 50 and costs 4.90 below.', 'shipping cost fee delivery free postage 运费 邮费 包邮'),
    ('Track a parcel', 'The tracking link is in the mail that says your order was shipped.', 'track parcel package tracking 物流 快递 追踪 查询包裹'),
    ('Change the delivery address', 'You can change the address until the order is shipped, under My orders.', 'address change delivery 地址 修改 收货'),
    ('Download an invoice', 'Invoices are under My orders, one PDF per order.', 'invoice receipt vat tax 发票 开票'),
    ('Payment methods', 'We take cards, PayPal, Alipay and WeChat Pay.', 'payment pay method card paypal alipay wechat 支付 付款 方式'),
    ('Warranty', 'Every device has a warranty of 24 months.', 'warranty guarantee repair broken 保修 质保 维修'),
    ('Two-factor login', 'Turn it on under Security with any authenticator app.', 'two-factor 2fa authenticator security 双重 验证'),
    ('Gift cards', 'Gift cards are valid for 3 years and work at checkout.', 'gift card voucher coupon 礼品卡 优惠券'),
    ('Loyalty tiers', 'Silver starts at 500 a year and gold at 2000.', 'loyalty tier gold silver points member 会员 等级 积分');

INSERT INTO services VALUES
    ('login', 'up', '06:15'), ('payment', 'degraded', '09:40'), ('search', 'up', '00:00'),
    ('checkout', 'up', '03:20'), ('api', 'up', '00:00'), ('email', 'down', '08:05'),
    ('website', 'up', '00:00'), ('app', 'up', '05:30'), ('chat', 'up', '07:00'),
    ('sms', 'degraded', '10:25'), ('shipping', 'up', '04:45'), ('database', 'up', '00:00'),
    ('登录', 'up', '06:15'), ('支付', 'degraded', '09:40'), ('搜索', 'up', '00:00'), ('邮件', 'down', '08:05');
